"""The masks of one call: drawn to suit the edit, shaped by the arguments, with warnings if they look unintended."""

from __future__ import annotations

from dataclasses import dataclass

import PIL.Image
import torch

from semantic_edit.disk.telling import warn_caller
from semantic_edit.editing.mask_shapes import MaskShape, grow_mask, mask_to_latents, shape_mask
from semantic_edit.editing.masking import (
    NEGLIGIBLE_DIFFERENCE,
    MaskResult,
    NoiseContrast,
    find_mask,
    outline_mask,
)
from semantic_edit.editing.refinement import drawn_mask, followed_mask
from semantic_edit.editing.tuning import EditTuning
from semantic_edit.pipelines.images import Images


@dataclass(frozen=True)
class EditMask:
    """Where an edit applies.

    pixels: (edits, 1, height, width) in [0, 1].
    weights: (edits, 1, height // cell, width // cell), with which latents are blended: the mask with any room around
        it, averaged over each latent's pixels.
    empty: (edits,) booleans: whether nothing is edited.
    """

    pixels: torch.Tensor
    weights: torch.Tensor
    empty: torch.Tensor


@dataclass(frozen=True)
class Drawing:
    """How a found mask is drawn.

    threshold: The threshold on the soft mask.
    tuning: What suits the model.
    cell: Pixels along a latent's side.
    follows_edges: Whether it follows the picture's edges and is drawn to suit the kind of edit.
    is_shaped: Whether the caller shapes it, in which case it is only cut at the threshold.
    """

    threshold: float
    tuning: EditTuning
    cell: int
    follows_edges: bool
    is_shaped: bool


def found_and_drawn(
    noise: NoiseContrast, images: Images, drawing: Drawing, mask_thresholding_ratio: float | None = None
) -> tuple[MaskResult, torch.Tensor]:
    """What is found where the prompts of each edit disagree, and the mask drawn from it; see [`draw_edit_mask`].

    Args:
        noise: How the predictions differ.
        images: What the model works on.
        drawing: How the mask is drawn.
        mask_thresholding_ratio: See `find_mask`.
    """
    found = find_mask(noise, drawing.tuning, mask_thresholding_ratio, drawing.threshold)
    return found, draw_edit_mask(found, images, drawing)


def draw_edit_mask(found: MaskResult, images: Images, drawing: Drawing) -> torch.Tensor:
    """Draw a found mask in pixels, (edits, 1, height, width) in [0, 1]."""
    if not drawing.follows_edges:
        return outline_mask(found.soft_mask, drawing.threshold, drawing.cell)
    image = images.pixels
    if image is not None:
        image = image.to(found.soft_mask.device).expand(found.soft_mask.shape[0], -1, -1, -1)
    if drawing.is_shaped:
        return (followed_mask(found.soft_mask, drawing.cell, image) > drawing.threshold).float()
    return drawn_mask(
        found.soft_mask, found.recolours, drawing.tuning, drawing.threshold, drawing.cell, image
    )


def shape_edit_mask(
    mask: torch.Tensor, edits: int, clean: torch.Tensor, cell: int, shape: MaskShape, is_found: bool = False
) -> EditMask:
    """Grow and feather a mask of any size, and warn if it leaves nothing to edit or nothing to keep.

    Args:
        mask: (edits or 1, 1, any, any) in [0, 1].
        edits: The number of edits.
        clean: The pictures' latents, (batch, channels, height, width).
        cell: Pixels along a latent's side.
        shape: How much to grow and feather it.
        is_found: Whether it was found, rather than given by the caller.
    """
    height, width = (side * cell for side in clean.shape[-2:])
    pixels = shape_mask(mask.to(clean.device), height, width, shape).expand(edits, -1, -1, -1)
    weights = mask_to_latents(grow_mask(pixels, shape.room), cell)
    _warn_of_masks(pixels, is_found)
    return EditMask(pixels, weights, empty=pixels.flatten(1).amax(1) == 0)


def mask_images(whole: torch.Tensor) -> list[PIL.Image.Image]:
    """Masks of whole pictures, (edits, 1, height, width) in [0, 1], as black and white images, cut at a half."""
    cut = (255 * (whole[:, 0] >= 0.5)).to(torch.uint8).cpu().numpy()
    return [PIL.Image.fromarray(one) for one in cut]


def mask_of_everything(latents: torch.Tensor, edits: int, cell: int) -> EditMask:
    """A mask that confines nothing, for latents of shape (..., channels, height, width)."""
    height, width = latents.shape[-2:]
    return EditMask(
        pixels=latents.new_ones(edits, 1, height * cell, width * cell),
        weights=latents.new_ones(edits, 1, height, width),
        empty=torch.zeros(edits, dtype=torch.bool, device=latents.device),
    )


def _warn_of_masks(pixels: torch.Tensor, is_found: bool) -> None:
    """Warn of masks, (edits, 1, height, width), that edit nothing, little or everything."""
    highest, lowest = pixels.flatten(1).amax(1), pixels.flatten(1).amin(1)
    told = {
        "is empty, so nothing is edited. "
        + (
            "Lower `mask_threshold`, or name the thing that is to change in both prompts."
            if is_found
            else "Paint white in `mask_image` what may change."
        ): highest == 0,
        "is nowhere brighter than half, so the edit will be hardly visible. If that is not intended, divide "
        "`mask_image` by its maximum.": (highest > 0) & (highest < 0.5) & (not is_found),
        "covers the whole picture, so nothing of it is kept. "
        + ("Raise `mask_threshold`." if is_found else "Leave black in `mask_image` what must stay."): lowest
        == 1,
    }
    for what, which in told.items():
        rows = which.nonzero().flatten().tolist()
        if rows:
            whose = "The mask" if len(pixels) == 1 else f"The mask of edits {rows}"
            warn_caller(f"{whose} {what}")


def warn_of_alike_prompts(found: MaskResult) -> None:
    """Warn if the two prompts make hardly any difference."""
    alike = (found.relative_difference < NEGLIGIBLE_DIFFERENCE).nonzero().flatten().tolist()
    if alike:
        whose = "" if len(found.relative_difference) == 1 else f" for edits {alike}"
        warn_caller(
            f"The source and target prompts barely differ{whose}: their predictions are within "
            f"{NEGLIGIBLE_DIFFERENCE:.1%} of each other, so the mask shows little but rounding. Name the "
            "thing that is to change in both prompts, or pass a `mask_image`."
        )
