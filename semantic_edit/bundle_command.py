"""`semantic-edit bundle`: a pipeline as one file that diffusers loads where this package is not installed."""

from __future__ import annotations

import argparse

from semantic_edit.disk.writing import write_file
from semantic_edit.files import check_outputs
from semantic_edit.loading import quiet_loading
from semantic_edit.options import add_output
from semantic_edit.publishing.published import PIPELINES
from semantic_edit.terminal import say


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", choices=PIPELINES, help="which pipeline")
    add_output(parser, "where it goes; diffusers finds it by this name, for example diffedit.py")


def run(options: argparse.Namespace) -> None:
    """Write a pipeline as one file, for custom_pipeline="folder/diffedit.py" or to lie in a model's folder."""
    check_outputs({"--output": options.output}, {})
    quiet_loading()
    from semantic_edit.publishing.pipelines import pipeline_file

    write_file(options.output, pipeline_file(options.pipeline).encode())
    say(options.output)
