"""From latents to what a call returns: pictures, at the size at which they came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers.image_processor import VaeImageProcessor

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.mask_shapes import resize_mask
from semantic_edit.editing.stitching import eight_bits, seen_change, stitched
from semantic_edit.pipelines.masks import EditMask
from semantic_edit.pipelines.views import View

Finished = tuple[list[PIL.Image.Image] | np.ndarray | torch.Tensor, list[bool] | None]
Censor = Callable[[torch.Tensor], tuple[torch.Tensor, list[bool] | None]]
"""From pixels, (batch, 3, height, width) in [0, 1], to the same with unsafe pictures black, and which those are."""


@dataclass(frozen=True, eq=False)
class Composition:
    """How what was decoded is laid over the pictures that it was made of.

    view: What the model worked at.
    mask: Where each edit applies in it.
    preserve_background: Whether the original's own pixels are kept outside the mask.
    whole_mask: `View.whole_mask` of the mask, where the view is not plain.
    seen_only: For each edit, whether the original's own pixels are kept inside the mask too, where the edit is not to
        be seen. () is no.
    """

    view: View
    mask: EditMask
    preserve_background: bool = False
    whole_mask: torch.Tensor | None = None
    seen_only: Sequence[bool] = ()


def finish_pictures(
    denoiser: Denoiser, latents: torch.Tensor, output_type: str, laid: Composition, censor: Censor
) -> Finished:
    """Latents, (edits * copies, channels, height, width), as pictures and safety flags.

    Where nothing was edited the original's own pixels are returned, with `preserve_background` all those
    outside the mask, each bit by bit. What the model made of a part of a picture, or of a picture at another size, is
    laid over the original at the original's size.
    """
    if output_type == "latent":
        return latents, None
    view, mask = laid.view, laid.mask
    kept = view.pictures.pixels
    seen = None
    if kept is None:
        images = edited = denoiser.decode(latents)
    else:
        edits = mask.empty.shape[0]
        copies = latents.shape[0] // edits
        opacity = mask.pixels if laid.preserve_background else torch.ones_like(mask.pixels)
        opacity = opacity * ~mask.empty[:, None, None, None]
        images = kept.to(latents.device).expand(edits, -1, -1, -1).repeat_interleave(copies, dim=0)
        edited = images
        if opacity.any():
            edited = denoiser.decode(latents)
            opacity = opacity.repeat_interleave(copies, dim=0)
            if any(laid.seen_only):
                seen = seen_change(images, edited, denoiser.cell / 2)
                seen[[row for row in range(len(seen)) if not laid.seen_only[row // copies]]] = 1
                opacity = opacity * seen
            # lerp returns the end itself at weight 0
            images = torch.lerp(images, edited, opacity)
    images, flags = censor(images)
    if view.is_plain:
        return convert_pixels(images, output_type), flags
    pictures = []
    for row in range(len(latents)):
        edit = row // copies
        covers = laid.whole_mask if laid.preserve_background else None
        opacity = _opacity(view, edit, covers, None if seen is None else seen[row])
        one = _laid_over(view, edit, edited[row].cpu(), mask, opacity, output_type != "pil")
        pictures.append(one * (not flags or not flags[row]))
    if output_type == "pil":
        arrays = [eight_bits(one).permute(1, 2, 0).contiguous().numpy() for one in pictures]
        return [PIL.Image.fromarray(array) for array in arrays], flags
    return convert_pixels(torch.stack(pictures).to(latents.device), output_type), flags


def convert_pixels(
    images: torch.Tensor, output_type: str
) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
    """Pixels, (batch, 3, height, width) in [0, 1], as `output_type` wants them."""
    if output_type == "pt":
        return images
    array = VaeImageProcessor.pt_to_numpy(images)
    return array if output_type == "np" else VaeImageProcessor.numpy_to_pil(array)


def _opacity(view: View, edit: int, covers: torch.Tensor | None, seen: torch.Tensor | None) -> torch.Tensor:
    """How much of an edit's frame is laid over the original, (1, height, width) of the frame's box.

    Args:
        covers: (edits, 1, height, width) of the whole pictures, or `None` for all of the frames.
        seen: (1, height, width) of the frame's size, or `None` for all.
    """
    frame = view.frame(edit)
    left, upper, right, lower = frame.box
    opacity = torch.ones(1, lower - upper, right - left)
    if covers is not None:
        opacity = covers[edit, :, upper:lower, left:right].cpu()
    if seen is not None:
        opacity = opacity * resize_mask(seen[None].cpu(), lower - upper, right - left)[0]
    return opacity


def _laid_over(
    view: View, edit: int, edited: torch.Tensor, mask: EditMask, opacity: torch.Tensor, in_floats: bool
) -> torch.Tensor:
    """An edit's picture with what was made of its frame, (3, height, width), laid over it.

    Args:
        opacity: (1, height, width) of the frame's box.
        in_floats: Whether 8 bits would lose what the edit has.
    """
    original, frame = view.original(edit), view.frame(edit)
    if in_floats and original.dtype == torch.uint8:
        original = original.float() / 255
    if mask.empty[edit]:
        return original
    return stitched(original, edited, opacity, frame)
