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

SHAPING = ("mask_grow", "mask_feather", "mask_threshold", "num_maps_per_mask")
SCALES = ("guidance_scale", "true_cfg_scale")  # what families call it
STRENGTH = 0.4
GUIDANCE = 1.0


def without_object(
    pipe: Any, images: Images, prompts: dict[str, Any], arguments: dict[str, Any]
) -> DiffEditPipelineOutput:
    """Find or take the mask of what goes, fill it, and edit the filled images within it.

    Args:
        pipe: A DiffEdit pipeline.
        images: In pixels.
        prompts: "source_prompt" and "prompt".
        arguments: Others of a call's arguments.

    Raises:
        ValueError: If there are no pixels to fill, or none to fill them from.
    """
    if images.planes is None:
        raise ValueError("`remove` fills the `image` in pixels, and got latents; pass the image.")
    found = pipe.locate(images.planes, **prompts, **arguments)
    inside = found.pixel_mask.cpu() >= 0.5
    filled = _filled(images, inside)
    scale = next(name for name in SCALES if name in inspect.signature(pipe.__call__).parameters)
    usual = {"inpaint_strength": STRENGTH, scale: GUIDANCE}
    given = {**usual, **{name: value for name, value in arguments.items() if name not in SHAPING}}
    output = pipe(filled, **prompts, **{**given, "mask_image": inside.float(), "return_dict": True})
    names = ("soft_mask", "mask_confidence", "mask_coherence")
    # the inversion is that of the filled image, which the caller does not have
    return dataclasses.replace(output, trajectory=None, **{name: getattr(found, name) for name in names})


def _filled(images: Images, inside: torch.Tensor) -> torch.Tensor:
    """The images with the inside of their masks, (edits, 1, height, width) booleans, filled; 8-bit if they are."""
    pixels = images.pixels
    assert pixels is not None  # checked by the caller
    if inside.flatten(1).all(1).any():
        raise ValueError(
            "The mask covers the whole image, so nothing is left to fill it from. Raise `mask_threshold`, or pass a "
            "`mask_image` of what is to go."
        )
    filled = filled_inside(pixels.cpu().expand(len(inside), -1, -1, -1), inside)
    return eight_bits(filled) if images.planes.dtype == torch.uint8 else filled  # type: ignore[union-attr]
