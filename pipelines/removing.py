"""Take an object away: fill its place from the surroundings, and let the model finish it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from semantic_edit.editing.filling import filled_inside
from semantic_edit.editing.stitching import eight_bits
from semantic_edit.pipelines.images import Images
from semantic_edit.pipelines.outputs import DiffEditPipelineOutput, as_tuple

STRENGTH = 0.4
MADE_OF_ANOTHER = ("trajectory", "image_latents")


def without_object(
    pipe: Any, images: Images, prompt: str | list[str], arguments: dict[str, Any]
) -> DiffEditPipelineOutput | tuple[Any, ...]:
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
    for name in MADE_OF_ANOTHER:
        if arguments.get(name) is not None:
            raise ValueError(
                f"`{name}` does not go with `remove`, which inverts the filled image; leave it out."
            )
    negative = any(arguments.get(name) for name in ("negative_prompt", "negative_prompt_2"))
    unguided = {} if negative or arguments.get("negative_prompt_embeds") is not None else pipe._UNGUIDED
    given = {"inpaint_strength": STRENGTH, **unguided, **arguments}
    inside = pipe.locate(images.planes, prompt=prompt, **given).pixel_mask.cpu() >= 0.5
    given |= {"mask_image": inside.float(), "mask_grow": None, "return_dict": True}
    output = pipe(_insides_filled(images, inside), prompt, **given)
    # the inversion is that of the filled image, which the caller does not have
    output = dataclasses.replace(output, trajectory=None)
    return output if arguments.get("return_dict", True) else as_tuple(output)


def _insides_filled(images: Images, inside: torch.Tensor) -> torch.Tensor:
    """The images with the inside of their masks, (edits, 1, height, width) booleans, filled; 8-bit if they are."""
    pixels = images.pixels
    assert pixels is not None  # checked by the caller
    if inside.flatten(1).all(1).any():
        raise ValueError(
            "`mask_image` covers the whole image, so nothing is left to fill it from; pass a mask of what is to go."
        )
    filled = filled_inside(pixels.cpu().expand(len(inside), -1, -1, -1), inside)
    return eight_bits(filled) if images.planes.dtype == torch.uint8 else filled  # type: ignore[union-attr]
