"""`semantic-edit bundle`: a pipeline as a single file, which diffusers can load without this package."""

from __future__ import annotations

import argparse

from semantic_edit.disk.writing import write_file
from semantic_edit.files import check_outputs
from semantic_edit.loading import quiet_loading
from semantic_edit.options import add_output
from semantic_edit.publishing.published import PIPELINES
from semantic_edit.terminal import say


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", choices=PIPELINES, help="the pipeline to write")
    add_output(parser, "where to write it, for example diffedit.py; diffusers finds it by its name")


def run(options: argparse.Namespace) -> None:
    """Write a pipeline to a single file, to be loaded with custom_pipeline="folder/diffedit.py"."""
    check_outputs({"--output": options.output}, {})
    quiet_loading()
    from semantic_edit.publishing.pipelines import pipeline_file

    write_file(options.output, pipeline_file(options.pipeline).encode())
    say(options.output)
