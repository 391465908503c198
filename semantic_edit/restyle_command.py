"""`semantic-edit restyle`: edits of a learned image, one for each prompt."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from semantic_edit.disk.writing import write_files
from semantic_edit.files import (
    UsageError,
    check_images,
    check_outputs,
    check_suffix,
    encode_image,
    read_image,
)
from semantic_edit.loading import (
    check_mapping,
    check_model_choice,
    load_image,
    load_mapping,
    load_pipeline_for,
    quiet_loading,
)
from semantic_edit.names import AUTOMATIC, EDIT_TYPES
from semantic_edit.options import (
    add_guidance,
    add_mapping,
    add_mask_shape,
    add_mask_threshold,
    add_model,
    add_negative,
    add_output,
    check_negative,
    fraction,
    model_choice,
    prompt,
    typed,
    word_factor,
    words,
    words_for,
)
from semantic_edit.running import run_edit
from semantic_edit.terminal import say

if TYPE_CHECKING:
    from semantic_edit.pipelines import StyleDiffusionPipelineOutput

PIPELINE_OPTIONS = {
    "tau_v": "tau_v",
    "tau_c": "tau_c",
    "tau_s": "tau_s",
    "tau_u": "tau_u",
    "edit_type": "edit_type",
    "local_blend": "local_blend",
    "guidance_scale": "guidance_scale",
    "negative": "negative_prompt",
    "mask_threshold": "mask_threshold",
    "mask_grow": "mask_grow",
    "mask_feather": "mask_feather",
}
WORDS = words_for(
    PIPELINE_OPTIONS,
    image="--image",
    preserve_background="keeping its pixels",
    mask_image="--mask",
    mapping_network="--mapping",
    prompt="--prompt",
    reweight="--reweight",
)
_TAUS = {
    "v": ("the learned appearance", 0.6),
    "c": ("what the words refer to", 0.6),
    "s": ("the layout", 0.8),
    "u": ("the layout, in the unconditional branch", 0.5),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_mapping(parser)
    parser.add_argument(
        "--prompt",
        type=prompt,
        required=True,
        action="append",
        metavar="TEXT",
        help="what the image should show; repeat the option for further edits",
    )
    add_output(
        parser,
        "where to write the edited image; for several prompts, out.png becomes out-1.png, out-2.png and so on",
    )
    _add_method(parser.add_argument_group("edit"))
    _add_mask(parser.add_argument_group("mask"))
    add_model(parser, default="the one that the image was learned with")
    _add_files(parser.add_argument_group("more files"))


def add_taus(group: argparse._ArgumentGroup) -> None:
    """Add how long an edit keeps what it takes from the learned image."""
    for letter, (kept, default) in _TAUS.items():
        group.add_argument(
            f"--tau-{letter}",
            type=fraction,
            metavar="F",
            help=f"fraction of the steps that keep {kept}; lower values change more (default: {default})",
        )


def _add_method(group: argparse._ArgumentGroup) -> None:
    add_taus(group)
    group.add_argument(
        "--edit-type",
        choices=EDIT_TYPES,
        help="whether words are exchanged one for one, or words are added (default: chosen by the number of words)",
    )
    group.add_argument(
        "--reweight",
        type=word_factor,
        action="append",
        metavar="WORD=FACTOR",
        help="strengthen a word, or weaken it by a factor below 1; may be repeated",
    )
    group.add_argument(
        "--local-blend",
        type=words,
        action="append",
        metavar="WORD",
        help="change only the part of the image that this word refers to; may be repeated",
    )
    add_guidance(group, default="as learned")
    add_negative(group)


def _add_mask(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask",
        type=_mask,
        metavar=f"FILE|{AUTOMATIC}",
        help=f"edit only where this image is white; {AUTOMATIC} finds where the descriptions differ, for each prompt "
        f"(default: {AUTOMATIC} if --image is given, otherwise everywhere)",
    )
    add_mask_threshold(group)
    add_mask_shape(group)
    group.add_argument(
        "--image",
        type=Path,
        metavar="FILE",
        help="the original image, to keep its size and its own pixels outside the mask",
    )


def _mask(text: str) -> Path | str:
    """A file, or the word for a mask that is to be found."""
    return text if text == AUTOMATIC else Path(text)


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--save-reconstruction", type=Path, metavar="FILE", help="save the image as it was learned"
    )
    group.add_argument(
        "--strip", type=Path, metavar="FILE", help="save an overview of the learned image and every edit"
    )


def run(options: argparse.Namespace) -> None:
    """Edit a learned image with words: one edit for each prompt."""
    if options.mask is None and options.image is not None:
        options.mask = AUTOMATIC
    outputs = _checked(options)
    quiet_loading()
    arguments = _pipeline_arguments(options)
    network = load_mapping(options.mapping, options.offline)
    pipe = load_pipeline_for(
        network,
        options.mapping,
        model_choice(options),
    )
    output = run_edit(pipe, "try other words", prompt=options.prompt, mapping_network=network, **arguments)
    before = (network.config.prompt, arguments.get("image"))
    write_files(_contents(options, outputs, before, output))
    for path in outputs.values():
        say(path)


def _check_together(options: argparse.Namespace) -> None:
    """Raise if an option would have no effect."""
    if options.mask is None:
        idle = [name for name in ("mask_grow", "mask_feather") if getattr(options, name) is not None]
        if idle:
            raise UsageError(f"--{idle[0].replace('_', '-')} has no effect without --mask")
    if options.mask != AUTOMATIC and options.mask_threshold is not None:
        raise UsageError(f"--mask-threshold only affects how a mask is found, by --mask {AUTOMATIC}")
    check_negative(options)


def _checked(options: argparse.Namespace) -> dict[str, Path]:
    """The files to write, by option, after checking everything that was typed."""
    _check_together(options)
    edits = dict(zip(_edit_names(options), _numbered(options.output, len(options.prompt)), strict=True))
    others = {"--save-reconstruction": options.save_reconstruction, "--strip": options.strip}
    named = {option: path for option, path in {**edits, **others}.items() if path is not None}
    for option, path in named.items():
        check_suffix(option, path)
    read = {"--mask": None if options.mask == AUTOMATIC else options.mask, "--image": options.image}
    inputs = {option: path for option, path in read.items() if path is not None}
    check_outputs(named, inputs)
    check_images(inputs)
    check_mapping(options.mapping)
    if options.model is not None:  # otherwise it is the one that the image was learned with
        check_model_choice(model_choice(options))
    return named


def _edit_names(options: argparse.Namespace) -> list[str]:
    count = len(options.prompt)
    return ["--output"] if count == 1 else [f"image {index} of --output" for index in range(1, count + 1)]


def _numbered(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{index}{path.suffix}") for index in range(1, count + 1)]


def _pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the pipeline besides the prompts and the network."""
    arguments = typed(options, PIPELINE_OPTIONS)
    if options.reweight is not None:
        arguments["reweight"] = dict(options.reweight)
    if options.mask is not None:
        arguments["mask_image"] = AUTOMATIC if options.mask == AUTOMATIC else read_image(options.mask)
    if options.image is not None:
        arguments |= {"image": load_image(options.image), "preserve_background": True}
    return arguments


def _contents(
    options: argparse.Namespace,
    outputs: dict[str, Path],
    source: tuple[str, Image.Image | None],
    output: StyleDiffusionPipelineOutput,
) -> dict[Path, bytes]:
    """The content of each file; `source` is the learned prompt and the image, if it was given."""
    from semantic_edit.pipelines.strips import strip

    edits: list[Image.Image] = list(output.images)
    (reconstruction,) = output.reconstruction  # type: ignore[misc]
    panels = [(source[0], source[1] or reconstruction)]
    for number, shown in enumerate(zip(options.prompt, edits, strict=True)):
        if options.mask == AUTOMATIC:
            panels.append(("mask", _found_mask(output, number)))
        panels.append(shown)
    images = {
        **dict(zip(_edit_names(options), edits, strict=True)),
        "--save-reconstruction": reconstruction,
        "--strip": strip(panels),
    }
    return {path: encode_image(images[option], path) for option, path in outputs.items()}


def _found_mask(output: StyleDiffusionPipelineOutput, number: int) -> Image.Image:
    """The mask of one edit."""
    from semantic_edit.editing.origins import mask_as_image

    assert output.pixel_mask is not None  # of edits that are confined
    return mask_as_image(output.pixel_mask[number])
