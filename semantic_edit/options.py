"""Options that several commands share, and how their values are read."""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PIPELINES = ("diffedit", "stylediffusion")  # those of `publishing.pipelines`, which takes seconds to import


def add_output(parser: argparse.ArgumentParser, purpose: str, metavar: str = "FILE") -> None:
    parser.add_argument("-o", "--output", required=True, type=Path, metavar=metavar, help=purpose)


def add_guidance(group: argparse._ArgumentGroup, default: str) -> None:
    group.add_argument(
        "--guidance-scale",
        type=float,
        metavar="W",
        help=f"how strongly the prompt pulls (default: {default})",
    )


def add_negative(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--negative", "--negative-prompt", metavar="TEXT", help="what the result shall not show"
    )


def add_mask_shape(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--mask-grow", type=int, metavar="PX", help="widen the mask, or narrow it if negative")
    group.add_argument("--mask-feather", type=float, metavar="PX", help="soften the mask's edge")


def add_size(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--size", type=size, metavar="WxH", help="resize the picture first, for example 512x384"
    )


def add_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mapping", required=True, metavar="ID", help="a folder that `learn` wrote, or a Hub id"
    )


def add_model(parser: argparse.ArgumentParser, default: str = "the small still-life model") -> None:
    group = parser.add_argument_group("the model")
    group.add_argument("--model", metavar="ID", help=f"a folder or a Hub id (default: {default})")
    group.add_argument("--offline", action="store_true", help="take a Hub id from the local cache alone")
    group.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: the fastest there is)"
    )
    group.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="(default: float16 on cuda, else float32)"
    )


def add_image_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-encoder",
        metavar="ID",
        help="a CLIP vision model, for a --model that has none, for example openai/clip-vit-base-patch16",
    )


def add_traceback(parser: argparse.ArgumentParser, default: object = False) -> None:
    parser.add_argument(
        "--traceback", action="store_true", default=default, help="show where an unexpected failure happened"
    )


def typed(options: argparse.Namespace, names: Mapping[str, str]) -> dict[str, Any]:
    """The options that were typed, each under the pipeline's name for it; its own defaults hold for the others."""
    given = {name: getattr(options, option) for option, name in names.items()}
    return {name: value for name, value in given.items() if value is not None}


def count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number from 1 is needed, got {text!r}")
    return int(text)


def count_or_none(text: str) -> int:
    return 0 if text == "0" else count(text)


def seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to 2**63 - 1 is needed, got {text!r}")
    return int(text)


def size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"a size reads WIDTHxHEIGHT, for example 512x384, got {text!r}")
    return int(width), int(height)


def fraction(text: str) -> float:
    value = _number(text)
    if value is None or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 is needed, got {text!r}")
    return value


def word_factor(text: str) -> tuple[str, float]:
    word, _, factor = text.rpartition("=")
    value = _number(factor)
    if not word.strip() or value is None:
        raise argparse.ArgumentTypeError(f"a weight reads WORD=FACTOR, for example apple=2, got {text!r}")
    return word.strip(), value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
