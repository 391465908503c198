"""`semantic-edit edit`: DiffEdit, from a picture and two descriptions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from semantic_edit.files import UsageError, check_outputs, check_suffix, read_picture, save_picture, write_all
from semantic_edit.loading import load_picture, load_pipeline, load_trajectory, quiet_loading
from semantic_edit.options import (
    add_guidance,
    add_mask_shape,
    add_model,
    add_negative,
    add_output,
    add_size,
    seed,
    typed,
)
from semantic_edit.running import run_edit
from semantic_edit.strips import edit_strip, mask_picture

if TYPE_CHECKING:
    from semantic_edit.pipelines import DiffEditPipelineOutput

_PIPELINE_OPTIONS = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "negative": "negative_prompt",
    "strength": "inpaint_strength",
    "maps": "num_maps_per_mask",
    "mask_threshold": "mask_threshold",
    "mask_grow": "mask_grow",
    "mask_feather": "mask_feather",
    "preserve_background": "preserve_background",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, help="the picture to edit")
    parser.add_argument(
        "--source", default="", metavar="TEXT", help="what the picture shows now (may be left out)"
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what it shall show")
    add_output(parser, "where the edited picture goes")
    _add_method(parser.add_argument_group("the edit"))
    add_model(parser)
    _add_files(parser.add_argument_group("further files"))


def _add_method(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--seed", type=seed, default=0, help="of the mask's noises (default: 0)")
    group.add_argument("--steps", type=int, metavar="N", help="steps of the whole schedule (default: 50)")
    add_guidance(group, default="7.5")
    add_negative(group)
    group.add_argument(
        "--strength", type=float, metavar="R", help="fraction of the schedule to redo (default: 0.8)"
    )
    group.add_argument(
        "--maps", type=int, metavar="N", help="noise maps averaged into the mask (default: 10)"
    )
    group.add_argument(
        "--mask-threshold", type=float, metavar="T", help="higher makes a smaller mask (default: 0.5)"
    )
    add_mask_shape(group)
    group.add_argument(
        "--preserve-background",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the original pixels outside the mask (default: yes)",
    )
    add_size(group)


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask", type=Path, metavar="FILE", help="edit where this picture is white, instead of a found mask"
    )
    group.add_argument("--save-mask", type=Path, metavar="FILE", help="keep the mask")
    group.add_argument(
        "--trajectory", type=Path, metavar="FILE", help="reuse a saved inversion of this picture"
    )
    group.add_argument(
        "--save-trajectory", type=Path, metavar="FILE", help="keep the inversion (.safetensors)"
    )
    group.add_argument("--strip", type=Path, metavar="FILE", help="draw before | soft map | mask | after")


def run(options: argparse.Namespace) -> None:
    """Edit one picture and write what was asked for."""
    outputs = _outputs(options)
    quiet_loading()
    picture = load_picture(options.picture, options.size)
    output = _edit(options, picture, _pipeline_arguments(options))
    writers = _writers(picture, output)
    if options.save_trajectory is not None and "--save-trajectory" not in writers:
        advice = "lower --mask-threshold" if options.mask is None else f"{options.mask} is white nowhere"
        raise UsageError(f"--save-trajectory: the mask is empty, so nothing was inverted; {advice}")
    write_all({path: writers[option] for option, path in outputs.items()})
    for path in outputs.values():
        print(path)


def _outputs(options: argparse.Namespace) -> dict[str, Path]:
    """The files to write, by option, once all of them have proved writable."""
    pictures = {"--output": options.output, "--save-mask": options.save_mask, "--strip": options.strip}
    named = {option: path for option, path in pictures.items() if path is not None}
    for option, path in named.items():
        check_suffix(option, path)
    if options.save_trajectory is not None:
        check_suffix("--save-trajectory", options.save_trajectory, (".safetensors",))
        named["--save-trajectory"] = options.save_trajectory
    read = {"the picture": options.picture, "--mask": options.mask, "--trajectory": options.trajectory}
    check_outputs(named, {option: path for option, path in read.items() if path is not None})
    return named


def _pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What the pipeline is called with besides the picture."""
    arguments = typed(options, _PIPELINE_OPTIONS)
    if options.mask is not None:
        arguments["mask_image"] = ImageOps.exif_transpose(read_picture(options.mask))
    if options.trajectory is not None:
        arguments["trajectory"] = load_trajectory(options.trajectory)
    return {"prompt": options.prompt, "source_prompt": options.source, **arguments}


def _edit(
    options: argparse.Namespace, picture: Image.Image, arguments: dict[str, Any]
) -> DiffEditPipelineOutput:
    import torch

    from semantic_edit.pipelines import DiffEditPipeline

    pipe = load_pipeline(DiffEditPipeline, options.model, options.device, options.dtype, options.offline)
    generator = torch.Generator("cpu").manual_seed(options.seed)
    advice = "try other words or another --seed"
    return run_edit(pipe, advice, image=picture, generator=generator, **arguments)


def _writers(picture: Image.Image, output: DiffEditPipelineOutput) -> dict[str, Callable[[Path], None]]:
    """How to write the file of each option, for what there is to write."""
    after, mask = output.images[0], output.pixel_mask
    assert isinstance(after, Image.Image)  # by the pipeline's default output type
    assert mask is not None  # only the three-stage call with bare latents has none
    writers: dict[str, Callable[[Path], None]] = {
        "--output": partial(save_picture, after),
        "--save-mask": partial(save_picture, mask_picture(mask, picture.size)),
        "--strip": partial(save_picture, edit_strip(picture, after, mask, output.soft_mask)),
    }
    if output.trajectory is not None:
        writers["--save-trajectory"] = output.trajectory.save
    return writers
