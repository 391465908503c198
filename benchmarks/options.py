"""Options that the benchmarks' command lines share."""

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
        purpose: The benchmark's docstring, of which the first line is shown.
        repeats: The default; `None` leaves it to each part.
    """
    parser = argparse.ArgumentParser(description=(purpose or "").split("\n")[0])
    add_count(parser, "--repeats", repeats, "rounds in turn", "5, or fewer if a round takes minutes")
    return parser


def add_count(
    parser: argparse.ArgumentParser, option: str, usual: int | None, what: str, otherwise: str = ""
) -> None:
    """Add an option that takes a whole number.

    Args:
        usual: The default; `None` leaves it open.
        what: What is counted.
        otherwise: The default in that case, in words.
    """
    parser.add_argument(
        option,
        type=count,
        default=usual,
        metavar="N",
        help=f"{what} (default: {otherwise if usual is None else usual})",
    )


def add_counts(parser: argparse.ArgumentParser, option: str, usual: Sequence[int], what: str) -> None:
    """Add an option that takes one or more whole numbers."""
    listed = " ".join(map(str, usual))
    parser.add_argument(
        option, type=count, nargs="*", default=usual, metavar="N", help=f"{what} (default: {listed})"
    )


def add_model(parser: argparse.ArgumentParser, what: str = "") -> None:
    """Add `--model` and `--device`.

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
        help=f"side of the images in pixels (default: 128, or {VAE['sample_size']} for {SD15})",
    )


def opened(pipeline: type[Pipeline], options: argparse.Namespace, dtype: str | None = None) -> Pipeline:
    """Load the model that was typed, without progress bars.

    Args:
        dtype: Of its weights; by default the fastest on the device.
    """
    quiet_loading()
    return open_pipeline(pipeline, options.model, options.device, dtype)
