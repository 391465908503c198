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
        help=f"how strongly to follow the prompt (default: {default})",
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
        help="widen the mask by this many pixels, or narrow it if negative",
    )
    group.add_argument(
        "--mask-feather",
        type=number(0, 1000),
        metavar="PX",
        help="soften the mask's edge by a blur of this many pixels",
    )


def add_mask_threshold(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask-threshold",
        type=number(0, 1, between=True),
        metavar="T",
        help="threshold of a mask that is found; higher values make it smaller (default: 0.5)",
    )


def add_size(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--size",
        type=size,
        metavar="WxH",
        help="size to work at, for example 512x384 (default: about the model's own)",
    )


def add_focus(group: argparse._ArgumentGroup, what: str) -> None:
    group.add_argument(
        "--focus",
        action=argparse.BooleanOptionalAction,
        help=f"{what} only the area around the mask, at the model's own size (default: if that is a small part of "
        "the image)",
    )


def sides(options: argparse.Namespace) -> dict[str, int]:
    """A typed `--size` under the pipelines' names."""
    return {} if options.size is None else dict(zip(("width", "height"), options.size, strict=True))


def add_mapping(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--mapping",
        required=required,
        metavar="ID",
        help="the learned image: a folder that `semantic-edit learn` wrote, or a Hub id",
    )


def add_model(parser: argparse.ArgumentParser, default: str = "the small still-life model") -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="ID", help=f"a folder, a .safetensors file or a Hub id (default: {default})"
    )
    group.add_argument(
        "--model-variant",
        metavar="NAME",
        help="variant of the model's files to load, for example fp16 (default: none)",
    )
    group.add_argument(
        "--offline", action="store_true", help="download nothing: look for Hub ids only in the local cache"
    )
    add_device(group)
    add_dtype(group)


def add_device(container: argparse._ActionsContainer) -> None:
    container.add_argument(
        "--device",
        metavar="NAME",
        help="where to compute: cpu, cuda, cuda:1, mps, ... (default: the fastest available)",
    )


def add_dtype(container: argparse._ActionsContainer) -> None:
    container.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="precision to compute in (default: float16 on cuda, otherwise float32)",
    )


def model_choice(options: argparse.Namespace) -> ModelChoice:
    """What was typed for the options of `add_model`."""
    return ModelChoice(options.model, options.device, options.dtype, options.offline, options.model_variant)


def add_image_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-encoder",
        metavar="ID",
        help="CLIP vision model, needed if the --model has none, for example openai/clip-vit-base-patch16",
    )


def add_traceback(parser: argparse.ArgumentParser, default: object = False) -> None:
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=default,
        help="if something unexpected fails, show where in the code",
    )


def check_negative(options: argparse.Namespace, none: int = 1) -> None:
    """Raise if there is a negative prompt, but no guidance away from it: a scale of `none` or less."""
    if options.negative is not None and options.guidance_scale is not None and options.guidance_scale <= none:
        raise UsageError(
            f"--negative has no effect with a --guidance-scale of {none} or less, which means no guidance"
        )


def typed(options: argparse.Namespace, names: Mapping[str, str]) -> dict[str, Any]:
    """The options that were typed, by the pipeline's names; the others keep the pipeline's defaults."""
    given = {name: getattr(options, option) for option, name in names.items()}
    return {name: value for name, value in given.items() if value is not None}


def words_for(names: Mapping[str, str], **others: str) -> dict[str, str]:
    """What to call a pipeline's arguments in its messages on the command line.

    Args:
        names: From option to the pipeline's name, as `typed` takes them.
        others: From the pipeline's name to its name on the command line.
    """
    return {name: f"--{option.replace('_', '-')}" for option, name in names.items()} | others


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Reads a whole number from `lowest` to `highest`."""

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        if not digits.isdecimal() or len(digits) > 30 or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(
                f"a whole number from {lowest} to {highest} is needed, got {shortened(text)}"
            )
        return int(text)

    return read


def number(lowest: float, highest: float, between: bool = False) -> Callable[[str], float]:
    """Reads a number from `lowest` to `highest`; with `between`, neither of these is allowed."""

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
    """Text for a model; a terminal with another encoding may pass bytes that are not UTF-8."""
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"text in UTF-8 is needed, got {shortened(text)}")
    return text


def prompt(text: str) -> str:
    """Text with at least one word."""
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
            f"a size has the form WIDTHxHEIGHT, for example 512x384, with sides up to 16384, got {shortened(text)}"
        ) from None


def word_factor(text: str) -> tuple[str, float]:
    word, _, factor = text.rpartition("=")
    value = _number(factor)
    if not words(word).strip() or value is None or abs(value) > 1000:
        raise argparse.ArgumentTypeError(
            f"a weight has the form WORD=FACTOR, for example apple=2, got {shortened(text)}"
        )
    return word.strip(), value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
