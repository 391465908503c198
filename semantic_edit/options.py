"""Options that several commands share, and how their values are read."""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semantic_edit.disk.reading import is_utf8, shortened
from semantic_edit.files import UsageError


@dataclass(frozen=True)
class ModelChoice:
    """Which model to load, and how.

    model: A folder in diffusers' layout, a single `.safetensors` file, a Hub id, or None for the embedded still-life
        model.
    device: A torch device; None takes the fastest available.
    dtype: "float32", "float16" or "bfloat16"; None takes float16 on CUDA, else float32.
    offline: Take a Hub id from the local cache only.
    variant: Of the files, such as "fp16".
    """

    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    offline: bool = False
    variant: str | None = None


STILL_LIFE_MODEL = ModelChoice()


def add_output(parser: argparse.ArgumentParser, purpose: str, metavar: str = "FILE") -> None:
    parser.add_argument("-o", "--output", required=True, type=Path, metavar=metavar, help=purpose)


def add_guidance(group: argparse._ArgumentGroup, default: str) -> None:
    group.add_argument(
        "--guidance-scale",
        type=number(0, 1000),
        metavar="W",
        help=f"how strongly the prompt pulls (default: {default})",
    )


def add_negative(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--negative", "--negative-prompt", type=words, metavar="TEXT", help="what to steer away from"
    )


def add_mask_shape(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask-grow",
        type=whole(-10_000, 10_000),
        metavar="PX",
        help="widen the mask, or narrow it if negative",
    )
    group.add_argument("--mask-feather", type=number(0, 1000), metavar="PX", help="soften the mask's edge")


def add_size(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--size",
        type=size,
        metavar="WxH",
        help="process the picture at this size, for example 512x384 (default: about the model's own)",
    )


def add_focus(group: argparse._ArgumentGroup, what: str) -> None:
    group.add_argument(
        "--focus",
        action=argparse.BooleanOptionalAction,
        help=f"{what} alone, at the model's own size (default: where they are a small part of the picture)",
    )


def sides(options: argparse.Namespace) -> dict[str, int]:
    """A typed `--size` under the pipelines' names."""
    return {} if options.size is None else dict(zip(("width", "height"), options.size, strict=True))


def add_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mapping", required=True, metavar="ID", help="a folder that `learn` wrote, or a Hub id"
    )


def add_model(parser: argparse.ArgumentParser, default: str = "the small still-life model") -> None:
    group = parser.add_argument_group("the model")
    group.add_argument(
        "--model", metavar="ID", help=f"a folder, a .safetensors file or a Hub id (default: {default})"
    )
    group.add_argument(
        "--model-variant",
        metavar="NAME",
        help="of the model's files, for example fp16 (default: the usual ones)",
    )
    group.add_argument("--offline", action="store_true", help="take a Hub id from the local cache alone")
    add_device(group)
    add_dtype(group)


def add_device(container: argparse._ActionsContainer) -> None:
    container.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: the fastest there is)"
    )


def add_dtype(container: argparse._ActionsContainer) -> None:
    container.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="(default: float16 on cuda, else float32)"
    )


def model_choice(options: argparse.Namespace) -> ModelChoice:
    """What was typed for the options of `add_model`."""
    return ModelChoice(options.model, options.device, options.dtype, options.offline, options.model_variant)


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


def check_negative(options: argparse.Namespace) -> None:
    """Refuse a negative prompt where nothing leads away from it."""
    if options.negative is not None and options.guidance_scale is not None and options.guidance_scale <= 1:
        raise UsageError(
            "--negative does nothing with a --guidance-scale of 1 or less: there is no guidance then"
        )


def typed(options: argparse.Namespace, names: Mapping[str, str]) -> dict[str, Any]:
    """The options that were typed, each under the pipeline's name for it; its own defaults hold for the others."""
    given = {name: getattr(options, option) for option, name in names.items()}
    return {name: value for name, value in given.items() if value is not None}


def words_for(names: Mapping[str, str], **others: str) -> dict[str, str]:
    """From a pipeline's names to what is typed for them, for its messages.

    Args:
        names: From option to the pipeline's name, as `typed` takes them.
        others: From the pipeline's name to words.
    """
    return {name: f"--{option.replace('_', '-')}" for option, name in names.items()} | others


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Reads a whole number between two, both included."""

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        if not digits.isdecimal() or len(digits) > 30 or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(
                f"a whole number from {lowest} to {highest} is needed, got {shortened(text)}"
            )
        return int(text)

    return read


def number(lowest: float, highest: float, between: bool = False) -> Callable[[str], float]:
    """Reads a number between two, both included unless it must lie `between` them."""

    def read(text: str) -> float:
        value = _number(text)
        if value is None or not lowest <= value <= highest or (between and value in (lowest, highest)):
            kind = f"between {lowest:g} and {highest:g}" if between else f"from {lowest:g} to {highest:g}"
            raise argparse.ArgumentTypeError(f"a number {kind} is needed, got {shortened(text)}")
        return value

    return read


count = whole(1, 1_000_000)
count_or_none = whole(0, 1_000_000)
seed = whole(0, 2**63 - 1)
steps = whole(1, 1000)  # a schedule has no more
fraction = number(0, 1)


def words(text: str) -> str:
    """Text that a model can be told: bytes that are no letters come from a terminal of another encoding."""
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"text in UTF-8 is needed, got {shortened(text)}")
    return text


def prompt(text: str) -> str:
    """Text that asks for something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a few words are needed, got none")
    return words(text)


def size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    side = whole(1, 16384)
    try:
        return side(width), side(height)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"a size reads WIDTHxHEIGHT, for example 512x384, with sides up to 16384, got {shortened(text)}"
        ) from None


def word_factor(text: str) -> tuple[str, float]:
    word, _, factor = text.rpartition("=")
    value = _number(factor)
    if not words(word).strip() or value is None or abs(value) > 1000:
        raise argparse.ArgumentTypeError(
            f"a weight reads WORD=FACTOR, for example apple=2, got {shortened(text)}"
        )
    return word.strip(), value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
