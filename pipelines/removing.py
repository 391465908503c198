"""Take an object away: fill its place from the surroundings, and let the model finish it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch

from semantic_edit.editing.filling import filled_inside
from semantic_edit.editing.stitching import eight_bits
from semantic_edit.pipelines.images import Images
from semantic_edit.pipelines.outputs import DiffEditPipelineOutput

SHAPING = ("mask_grow", "mask_feather")  # which have already shaped the mask
SCALES = ("guidance_scale", "true_cfg_scale")  # what families call it
STRENGTH = 0.4
GUIDANCE = 1.0


def without_object(
    pipe: Any, images: Images, prompt: str | list[str], arguments: dict[str, Any]
) -> DiffEditPipelineOutput:
    """Fill the inside of a mask, and edit the filled images within it.

    Args:
        pipe: A DiffEdit pipeline.
        images: In pixels.
        prompt: What is left.
        arguments: Others of a call's arguments, a "mask_image" among them.

    Raises:
        ValueError: If there are no pixels to fill, or none to fill them from.
    """
    if images.planes is None:
        raise ValueError("`remove` fills the `image` in pixels, and got latents; pass the image.")
    inside = pipe.locate(images.planes, prompt=prompt, **arguments).pixel_mask.cpu() >= 0.5
    scale = next(name for name in SCALES if name in inspect.signature(pipe.__call__).parameters)
    usual = {"inpaint_strength": STRENGTH, scale: GUIDANCE}
    given = {**usual, **{name: value for name, value in arguments.items() if name not in SHAPING}}
    output = pipe(
        _filled(images, inside), prompt, **{**given, "mask_image": inside.float(), "return_dict": True}
    )
    # the inversion is that of the filled image, which the caller does not have
    return dataclasses.replace(output, trajectory=None)


def _filled(images: Images, inside: torch.Tensor) -> torch.Tensor:
    """The images with the inside of their masks, (edits, 1, height, width) booleans, filled; 8-bit if they are."""
    pixels = images.pixels
    assert pixels is not None  # checked by the caller
    if inside.flatten(1).all(1).any():
        raise ValueError(
            "`mask_image` covers the whole image, so nothing is left to fill it from; pass a mask of what is to go."
        )
    filled = filled_inside(pixels.cpu().expand(len(inside), -1, -1, -1), inside)
    return eight_bits(filled) if images.planes.dtype == torch.uint8 else filled  # type: ignore[union-attr]
