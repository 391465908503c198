"""`semantic-edit bundle`: a pipeline as one file that diffusers loads where this package is not installed."""

from __future__ import annotations

import argparse
from pathlib import Path

from semantic_edit.files import check_outputs, write_all
from semantic_edit.loading import quiet_loading
from semantic_edit.options import PIPELINES, add_output


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", choices=PIPELINES, help="which pipeline")
    add_output(parser, "where it goes; diffusers finds it by this name, for example diffedit.py")


def run(options: argparse.Namespace) -> None:
    """Write a pipeline as one file, for custom_pipeline="folder/diffedit.py" or to lie in a model's folder."""
    check_outputs({"--output": options.output}, {})
    quiet_loading()
    from semantic_edit.publishing.pipelines import pipeline_file

    text = pipeline_file(options.pipeline)

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    write_all({options.output: write})
    print(options.output)
