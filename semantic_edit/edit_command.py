"""`semantic-edit edit`: DiffEdit, from an image and two descriptions of it."""

from __future__ import annotations

import argparse
import inspect
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from semantic_edit.disk.models import Z_IMAGE, family_of_modules
from semantic_edit.disk.writing import write_files
from semantic_edit.files import (
    UsageError,
    check_images,
    check_inputs,
    check_outputs,
    check_suffix,
    encode_image,
    read_image,
)
from semantic_edit.loading import (
    check_model_choice,
    load_image,
    load_pipeline,
    load_trajectory,
    quiet_loading,
)
from semantic_edit.names import AUTOMATIC, PRESETS
from semantic_edit.options import (
    add_focus,
    add_guidance,
    add_mask_shape,
    add_mask_threshold,
    add_model,
    add_negative,
    add_output,
    add_size,
    check_negative,
    model_choice,
    number,
    prompt,
    seed,
    sides,
    steps,
    typed,
    whole,
    words,
    words_for,
)
from semantic_edit.running import run_edit
from semantic_edit.terminal import complain, say

if TYPE_CHECKING:
    from semantic_edit.pipelines import DiffEditPipelineOutput

PIPELINE_OPTIONS = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "true_cfg_scale": "true_cfg_scale",
    "negative": "negative_prompt",
    "strength": "inpaint_strength",
    "maps": "num_maps_per_mask",
    "mask_threshold": "mask_threshold",
    "mask_grow": "mask_grow",
    "mask_feather": "mask_feather",
    "preserve_background": "preserve_background",
    "preset": "preset",
    "focus": "focus",
}
GUIDANCE = ("guidance_scale", "true_cfg_scale")
WORDS = words_for(
    PIPELINE_OPTIONS,
    image="the image",
    mask_image="--mask",
    prompt="--prompt",
    source_prompt="--source",
    trajectory="--trajectory",
    width="--size",
    height="--size",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help="the image to edit")
    parser.add_argument(
        "--source",
        type=words,
        default="",
        metavar="TEXT",
        help="what the image shows now, which helps to find what to change (optional)",
    )
    parser.add_argument(
        "--prompt", type=prompt, required=True, metavar="TEXT", help="what the image should show"
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="take away what --mask marks, an object with its shadow: its place is filled from its surroundings, and "
        "the model finishes it, by default at a strength of 0.4 and without guidance; --prompt says what is left",
    )
    add_output(parser, "where to write the edited image")
    add_method(parser.add_argument_group("edit"))
    add_model(parser)
    _add_files(parser.add_argument_group("more files"))


def add_method(group: argparse._ArgumentGroup) -> None:
    """Add how an edit is made."""
    group.add_argument("--seed", type=seed, help="seed of the noise used to find the mask (default: 0)")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="values of the options that you leave out: the best that were measured, or the paper's (default: default)",
    )
    group.add_argument(
        "--steps",
        type=steps,
        metavar="N",
        help="number of steps of the whole schedule (default: 20; paper: 50)",
    )
    add_guidance(
        group,
        default="7.5, with SDXL 5; 4 away from --source if an object changes, 2.5 with flows; paper: 7.5",
    )
    group.add_argument(
        "--true-cfg-scale",
        type=number(0, 1000),
        metavar="W",
        help="with FLUX.1 and Qwen-Image, how strongly to steer away from --negative (default: FLUX.1 not at all, "
        "Qwen-Image 4)",
    )
    add_negative(group)
    group.add_argument(
        "--strength",
        type=number(0.001, 1),
        metavar="R",
        help="fraction of the schedule to redo; lower values keep more of the original (default: 0.8)",
    )
    group.add_argument(
        "--maps",
        type=whole(1, 1000),
        metavar="N",
        help="number of noise maps averaged to find the mask (default: 5; paper: 10)",
    )
    add_mask_threshold(group)
    add_mask_shape(group)
    group.add_argument(
        "--preserve-background",
        action=argparse.BooleanOptionalAction,
        help="keep the original pixels outside the mask (default: yes; paper: no)",
    )
    add_size(group)
    add_focus(group, "edit")


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask", type=Path, metavar="FILE", help="edit where this image is white, instead of finding a mask"
    )
    group.add_argument("--save-mask", type=Path, metavar="FILE", help="save the mask")
    group.add_argument(
        "--trajectory", type=Path, metavar="FILE", help="reuse a saved inversion of this image"
    )
    group.add_argument(
        "--save-trajectory", type=Path, metavar="FILE", help="save the inversion (.safetensors)"
    )
    group.add_argument(
        "--strip", type=Path, metavar="FILE", help="save an overview: before | soft map | mask | after"
    )


def run(options: argparse.Namespace) -> None:
    """Edit an image as a prompt describes it, and leave the rest as it is."""
    outputs = _checked(options)
    if options.source and options.mask is not None:
        complain(
            "warning", "--source has no effect here: it helps to find a mask, and --mask already gives one"
        )
    quiet_loading()
    image = load_image(options.image)
    output = _edit(options, image, _pipeline_arguments(options))
    contents = _contents(outputs, image, output)
    if options.save_trajectory is not None and options.save_trajectory not in contents:
        advice = "lower --mask-threshold" if options.mask is None else f"{options.mask} is not white anywhere"
        raise UsageError(f"--save-trajectory: the mask is empty, so nothing was inverted; {advice}")
    write_files(contents)
    for path in outputs.values():
        say(path)


def _checked(options: argparse.Namespace) -> dict[str, Path]:
    """The files to write, by option, after checking everything that was typed."""
    _check_together(options)
    images = {"--output": options.output, "--save-mask": options.save_mask, "--strip": options.strip}
    named = {option: path for option, path in images.items() if path is not None}
    for option, path in named.items():
        check_suffix(option, path)
    if options.save_trajectory is not None:
        check_suffix("--save-trajectory", options.save_trajectory, (".safetensors",))
        named["--save-trajectory"] = options.save_trajectory
    read = {"the image": options.image, "--mask": options.mask, "--trajectory": options.trajectory}
    inputs = {option: path for option, path in read.items() if path is not None}
    check_outputs(named, inputs)
    check_inputs(inputs)
    check_images({option: path for option, path in inputs.items() if option != "--trajectory"})
    check_model_choice(model_choice(options))
    return named


def _check_together(options: argparse.Namespace) -> None:
    """Raise if an option would have no effect."""
    if options.mask == Path(AUTOMATIC) and not options.mask.exists():
        raise UsageError(
            f"--mask {AUTOMATIC} is for restyling; an edit finds its mask by itself: leave --mask out"
        )
    if options.mask is not None:
        idle = [name for name in ("mask_threshold", "maps", "seed") if getattr(options, name) is not None]
        if idle:
            raise UsageError(
                f"--{idle[0].replace('_', '-')} only affects how a mask is found, and --mask already gives one"
            )
    if options.remove and options.mask is None:
        raise UsageError("--remove needs --mask: an image that is white where the object and its shadow are")
    for name in ("trajectory", "save_trajectory") if options.remove else ():
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} does not go with --remove, which inverts the filled image; leave one out"
            )


def _pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the pipeline besides the image."""
    arguments = typed(options, PIPELINE_OPTIONS) | sides(options)
    if options.mask is not None:
        arguments["mask_image"] = read_image(options.mask)
    if options.trajectory is not None:
        arguments["trajectory"] = load_trajectory(options.trajectory)
    told = {} if options.remove else {"source_prompt": options.source}
    return {"prompt": options.prompt, **told, **arguments}


def _edit(
    options: argparse.Namespace, image: Image.Image, arguments: dict[str, Any]
) -> DiffEditPipelineOutput:
    import torch

    pipe = load_pipeline("diffedit", model_choice(options))
    check_guidance(options, pipe)
    generator = torch.Generator("cpu").manual_seed(options.seed or 0)
    advice = "try other words or another --seed"
    call = pipe.remove if options.remove else pipe
    return run_edit(call, advice, image=image, generator=generator, **arguments)


def check_guidance(options: argparse.Namespace, pipe: Any) -> None:
    """Raise if the model's family is guided by another option than was typed, or not at all."""
    taken, family = inspect.signature(pipe).parameters, family_of_modules(pipe.components)
    for name, other in itertools.permutations(GUIDANCE):
        if getattr(options, name) is not None and name not in taken:
            assert family is not None  # whatever is loaded is of one
            raise UsageError(f"{WORDS[name]} is not for models of {family.title}; use {WORDS[other]}")
    if "true_cfg_scale" not in taken:  # otherwise the pipeline looks at it
        check_negative(options, none=0 if family == Z_IMAGE else 1)


def _contents(
    outputs: dict[str, Path], image: Image.Image, output: DiffEditPipelineOutput
) -> dict[Path, bytes]:
    """The content of each file."""
    from semantic_edit.pipelines.strips import edit_images

    drawn = edit_images(image, output)
    images = {"--output": drawn["edited"], "--save-mask": drawn["mask"], "--strip": drawn["strip"]}
    contents = {
        outputs[option]: encode_image(one, outputs[option])
        for option, one in images.items()
        if option in outputs
    }
    if "--save-trajectory" in outputs and output.trajectory is not None:
        contents[outputs["--save-trajectory"]] = output.trajectory.to_bytes()
    return contents
