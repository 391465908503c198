"""The command `semantic-edit`: edit a picture by two descriptions, or render one to play with.

Exit codes: 0 done, 1 failed, 2 something to put right on the command line or in a file, 130 interrupted.
torch and diffusers are imported inside the commands, so that `--help` and bad input answer at once.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from semantic_edit.files import UsageError, check_outputs, check_suffix, read_picture, save_picture, write_all
from semantic_edit.loading import load_pipeline, load_trajectory, quiet_loading
from semantic_edit.options import build_parser
from semantic_edit.strips import edit_strip, mask_picture

if TYPE_CHECKING:
    from semantic_edit.pipelines import DiffEditPipeline, DiffEditPipelineOutput

# Options that go to the pipeline under its own name; left out here, its own default holds.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure is one line on stderr."""
    options = build_parser(edit, scene).parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        try:
            options.run(options)
        except KeyboardInterrupt:
            return _say_failure("interrupted", code=130)
        except Exception as error:
            if options.traceback:
                raise
            if isinstance(error, UsageError):
                return _say_failure(error, code=2)
            return _say_failure(f"{type(error).__name__}: {error} (--traceback shows where)", code=1)
    return 0


def edit(options: argparse.Namespace) -> None:
    """Edit one picture and write what was asked for."""
    outputs = _edit_outputs(options)
    quiet_loading()
    picture = _as_rgb(read_picture(options.picture))
    if options.size is not None:
        picture = picture.resize(options.size, Image.Resampling.LANCZOS)
    arguments = _pipeline_arguments(options, picture)
    pipe = load_pipeline(options.model, options.device, options.dtype, options.offline)
    output = _run(pipe, arguments, options.seed)
    writers = _writers(picture, output)
    if options.save_trajectory is not None and "--save-trajectory" not in writers:
        raise UsageError(
            "--save-trajectory: the mask is empty, so nothing was inverted; lower --mask-threshold"
        )
    write_all({path: writers[option] for option, path in outputs.items()})
    for path in outputs.values():
        print(path)


def scene(options: argparse.Namespace) -> None:
    """Render a still life and print the caption that describes it."""
    check_suffix("--output", options.output)
    check_outputs({"--output": options.output}, {})
    from semantic_edit.still_life.scenes import sample_scene

    drawn = sample_scene(options.seed, objects=options.objects)
    picture = Image.fromarray(drawn.render())
    write_all({options.output: partial(save_picture, picture)})
    print(drawn.caption(wording=0))


def _edit_outputs(options: argparse.Namespace) -> dict[str, Path]:
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


def _pipeline_arguments(options: argparse.Namespace, picture: Image.Image) -> dict[str, Any]:
    """What the pipeline is called with; options that were not typed are left to its own defaults."""
    given = {name: getattr(options, option) for option, name in _PIPELINE_OPTIONS.items()}
    arguments = {name: value for name, value in given.items() if value is not None}
    if options.mask is not None:
        arguments["mask_image"] = ImageOps.exif_transpose(read_picture(options.mask))
    if options.trajectory is not None:
        arguments["trajectory"] = load_trajectory(options.trajectory)
    return {"image": picture, "prompt": options.prompt, "source_prompt": options.source, **arguments}


def _as_rgb(picture: Image.Image) -> Image.Image:
    """Upright, opaque and in 8-bit RGB, converted as the pipeline itself would."""
    from semantic_edit.pipelines.pictures import read_pictures

    try:
        pixels = read_pictures(picture, factor=1).pixels
    except ValueError as error:
        raise UsageError(error) from error
    assert pixels is not None  # it is latents that have none
    return Image.fromarray((pixels[0].permute(1, 2, 0) * 255).round().byte().numpy())


def _run(pipe: DiffEditPipeline, arguments: dict[str, Any], seed: int) -> DiffEditPipelineOutput:
    import torch

    try:
        output = pipe(**arguments, generator=torch.Generator("cpu").manual_seed(seed))
    except ValueError as error:  # how the pipeline refuses its arguments
        raise UsageError(error) from error
    assert not isinstance(output, tuple)  # that is what `return_dict=False` gives
    flags = output.nsfw_content_detected
    if flags and flags[0]:
        raise UsageError("the model's safety checker withheld the result; try other words or another --seed")
    return output


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


def _say_failure(reason: object, code: int) -> int:
    print(f"semantic-edit: error: {' '.join(str(reason).split())}", file=sys.stderr)
    return code


def _say_warning(message: Warning | str, *_where: object, **_file: object) -> None:
    print(f"semantic-edit: warning: {' '.join(str(message).split())}", file=sys.stderr)
