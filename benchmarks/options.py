"""What the benchmarks' command lines have in common; each adds what is its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TypeVar

from diffusers import DiffusionPipeline

from benchmarks.sd15 import NAME as SD15
from benchmarks.sd15 import VAE, open_pipeline
from semantic_edit.loading import quiet_loading
from semantic_edit.options import add_device, count

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def parser_of(purpose: str | None, repeats: int | None) -> argparse.ArgumentParser:
    """A command line with `--repeats`.

    Args:
        purpose: A benchmark's docstring, of which the first line is shown.
        repeats: How many, where it is not said; `None` leaves that to each part.
    """
    parser = argparse.ArgumentParser(description=(purpose or "").split("\n")[0])
    add_count(parser, "--repeats", repeats, "rounds in turn", "5, fewer where a round takes minutes")
    return parser


def add_count(
    parser: argparse.ArgumentParser, option: str, usual: int | None, what: str, otherwise: str = ""
) -> None:
    """An option that takes a whole number.

    Args:
        usual: What holds where it is not typed; `None` leaves that open.
        what: What is counted.
        otherwise: What holds then, in words.
    """
    parser.add_argument(
        option,
        type=count,
        default=usual,
        metavar="N",
        help=f"{what} (default: {otherwise if usual is None else usual})",
    )


def add_counts(parser: argparse.ArgumentParser, option: str, usual: Sequence[int], what: str) -> None:
    """An option that takes any number of whole numbers."""
    listed = " ".join(map(str, usual))
    parser.add_argument(
        option, type=count, nargs="*", default=usual, metavar="N", help=f"{what} (default: {listed})"
    )


def add_model(parser: argparse.ArgumentParser, what: str = "") -> None:
    """`--model` and `--device`.

    Args:
        what: What the model is for, if not for everything.
    """
    parser.add_argument(
        "--model",
        metavar="ID",
        help=f"{what}a folder, a Hub id or {SD15} (default: the still-life model)",
    )
    add_device(parser)


def add_size(parser: argparse.ArgumentParser) -> None:
    """`--size`."""
    parser.add_argument(
        "--size",
        type=count,
        metavar="PX",
        help=f"side of the pictures (default: 128, or {VAE['sample_size']} for {SD15})",
    )


def opened(pipeline: type[Pipeline], options: argparse.Namespace, dtype: str | None = None) -> Pipeline:
    """The model that was typed, loaded and run without a word.

    Args:
        dtype: Of its weights; `None` takes the fastest that the device has.
    """
    quiet_loading()
    return open_pipeline(pipeline, options.model, options.device, dtype)
