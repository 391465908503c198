"""`semantic-edit learn`: StyleDiffusion's learning, from an image and its description to a mapping network."""

from __future__ import annotations

import argparse
import dataclasses
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semantic_edit.files import UsageError, check_folder, check_images, is_mapping_folder, read_image
from semantic_edit.loading import (
    check_image_encoder,
    check_model_choice,
    load_image,
    load_image_encoder,
    load_pipeline,
    quiet_loading,
)
from semantic_edit.names import CHECKPOINT_FILE, SCHEDULES, VARIANTS
from semantic_edit.options import (
    add_focus,
    add_guidance,
    add_image_encoder,
    add_model,
    add_output,
    add_size,
    model_choice,
    prompt,
    seed,
    sides,
    steps,
    typed,
    words_for,
)
from semantic_edit.running import refusals, tell_frames
from semantic_edit.terminal import say

if TYPE_CHECKING:
    from semantic_edit.auto import AnyStyleDiffusion
    from semantic_edit.mapping_networks import MappingNetwork

PIPELINE_OPTIONS = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "variant": "variant",
    "checkpoint": "checkpoint",
    "gradient_checkpointing": "gradient_checkpointing",
    "focus": "focus",
}
WORDS = words_for(
    PIPELINE_OPTIONS,
    image="the image",
    prompt="--prompt",
    image_encoder="--image-encoder",
    settings="--schedule",
    mask_image="--mask",
    width="--size",
    height="--size",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help="the image to learn")
    parser.add_argument(
        "--prompt",
        type=prompt,
        required=True,
        metavar="TEXT",
        help="what the image shows; a single word is enough",
    )
    add_output(parser, "where to save the mapping network; an existing one is replaced", metavar="FOLDER")
    _add_learning(parser.add_argument_group("learning"))
    add_model(parser)
    add_image_encoder(parser)


def _add_learning(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--seed", type=seed, default=0, help="seed of the network's initial weights (default: 0)"
    )
    group.add_argument(
        "--steps", type=steps, metavar="N", help="number of steps; later edits take as many (default: 20)"
    )
    add_guidance(group, default="7.5; later edits use the same")
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="short",
        help="how long to learn: not at all, by at most 20 or 60 updates in 20 steps, or as long as the paper's "
        "authors do, by up to 1015 in 30 (default: short)",
    )
    group.add_argument(
        "--variant",
        choices=VARIANTS,
        help="the published code's kind of network, or that of the paper's figure (default: modulate)",
    )
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FOLDER",
        help="save finished steps in this folder, and resume from them",
    )
    group.add_argument("--gradient-checkpointing", action="store_true", help="use less memory, but more time")
    add_size(group)
    group.add_argument(
        "--mask", type=Path, metavar="FILE", help="white where later edits will be; for --focus"
    )
    add_focus(group, "learn")


def run(options: argparse.Namespace) -> None:
    """Learn an image once, to restyle it with words as often as you like."""
    _check_folders(options.output, options.checkpoint)
    if options.mask is None and options.focus is not None:
        raise UsageError("--focus works on the area around a mask; pass one with --mask")
    read = {"the image": options.image, "--mask": options.mask}
    check_images({option: path for option, path in read.items() if path is not None})
    check_model_choice(model_choice(options))
    check_image_encoder(options.image_encoder)
    quiet_loading()
    image = load_image(options.image)
    network = _learn(options, _load(options), image)
    network.save_pretrained(options.output)
    say(options.output)
    say(f"reconstruction: {network.config.reconstruction_psnr:.1f} dB")


def _check_folders(output: Path, checkpoint: Path | None) -> None:
    check_folder("--output", output, is_mapping_folder, "a mapping network")
    if checkpoint is None:
        return
    place = Path(os.path.realpath(checkpoint))
    if Path(os.path.realpath(output)) in (place, *place.parents):
        raise UsageError(f"--checkpoint {checkpoint} lies in --output {output}; choose a folder outside it")
    check_folder(
        "--checkpoint", checkpoint, lambda folder: (folder / CHECKPOINT_FILE).is_file(), "a checkpoint"
    )


def _load(options: argparse.Namespace) -> AnyStyleDiffusion:
    vision = load_image_encoder(options.image_encoder, options.offline)
    pipe: AnyStyleDiffusion = load_pipeline("stylediffusion", model_choice(options), **vision)
    if pipe.image_encoder is None:
        raise UsageError(
            "the model has no image encoder, which learning needs; name one, for example --image-encoder "
            "openai/clip-vit-base-patch16"
        )
    return pipe


def _learn(options: argparse.Namespace, pipe: AnyStyleDiffusion, image: Any) -> MappingNetwork:
    from semantic_edit.editing.frames import Frame
    from semantic_edit.mapping_networks import LearningSettings

    settings = dataclasses.replace(getattr(LearningSettings, options.schedule)(), seed=options.seed)
    with refusals(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The learning did not converge")  # it advises in terms of Python
        arguments = typed(options, PIPELINE_OPTIONS) | sides(options)
        if options.mask is not None:
            arguments["mask_image"] = read_image(options.mask)
        network = pipe.learn_mapping(image, options.prompt, settings=settings, **arguments)
    assert not isinstance(network, list)  # one image under one prompt
    assert network.report is not None  # it was learned just now
    if network.config.frame is not None:
        tell_frames([Frame.read(network.config.frame)])
    if not all(network.report.converged):
        error = max(network.report.latent_errors)
        advice = "more --steps" if options.schedule == "published" else "--schedule published"
        warnings.warn(
            f"the learning did not converge (mean squared error of the latents {error:.2g}); try {advice}",
            stacklevel=2,
        )
    return network
