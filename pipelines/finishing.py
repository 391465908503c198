"""From latents to what a call returns: pictures, at the size in which they were given."""

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
"""Maps pixels, (batch, 3, height, width) in [0, 1], to the same with unsafe pictures black, and to their flags."""


@dataclass(frozen=True, eq=False)
class Composition:
    """How decoded pixels are laid over the original pictures.

    view: The area that the model worked on.
    mask: Where each edit applies in it.
    preserve_background: Whether the original pixels are kept outside the mask.
    whole_mask: `View.whole_mask` of the mask, unless the view is plain.
    seen_only: For each edit, whether the original pixels are also kept inside the mask where the edit makes no visible
        change; () means for none.
    """

    view: View
    mask: EditMask
    preserve_background: bool = False
    whole_mask: torch.Tensor | None = None
    seen_only: Sequence[bool] = ()


def finish_images(
    denoiser: Denoiser, latents: torch.Tensor, output_type: str, laid: Composition, censor: Censor
) -> Finished:
    """Turn latents into pictures and safety flags.

    If nothing was edited, the original pixels are returned bit by bit, and with `preserve_background` so are all pixels
    outside the mask. If the model worked on a part of a picture, or at another size, its result is laid over the
    original at the original's size.

    Args:
        denoiser: The model.
        latents: (edits * copies, channels, height, width).
        output_type: "pil", "np", "pt" or "latent".
        laid: How the results are laid over the originals.
        censor: Blackens unsafe pictures.

    Returns:
        The pictures in the form of `output_type`, and their flags, or `None` without a safety checker.
    """
    if output_type == "latent":
        return latents, None
    view, mask = laid.view, laid.mask
    kept = view.images.pixels
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
            # at weight 0, lerp returns its first argument exactly
            images = torch.lerp(images, edited, opacity)
    images, flags = censor(images)
    if view.is_plain:
        return convert_pixels(images, output_type), flags
    finished = []
    for row in range(len(latents)):
        edit = row // copies
        covers = laid.whole_mask if laid.preserve_background else None
        opacity = _opacity(view, edit, covers, None if seen is None else seen[row])
        one = _laid_over(view, edit, edited[row].cpu(), mask, opacity, output_type != "pil")
        finished.append(one * (not flags or not flags[row]))
    if output_type == "pil":
        arrays = [eight_bits(one).permute(1, 2, 0).contiguous().numpy() for one in finished]
        return [PIL.Image.fromarray(array) for array in arrays], flags
    return convert_pixels(torch.stack(finished).to(latents.device), output_type), flags


def convert_pixels(
    images: torch.Tensor, output_type: str
) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
    """Convert pixels, (batch, 3, height, width) in [0, 1], to the form that `output_type` names."""
    if output_type == "pt":
        return images
    array = VaeImageProcessor.pt_to_numpy(images)
    return array if output_type == "np" else VaeImageProcessor.numpy_to_pil(array)


def _opacity(view: View, edit: int, covers: torch.Tensor | None, seen: torch.Tensor | None) -> torch.Tensor:
    """How opaquely an edit's frame is laid over the original, (1, height, width) of the frame's box.

    Args:
        covers: (edits, 1, height, width), the masks of the whole pictures; `None` covers the whole frame.
        seen: (1, height, width) at the frame's working size; `None` for 1 everywhere.
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
    """An edit's original picture with the decoded frame, (3, height, width), laid over it.

    Args:
        opacity: (1, height, width) of the frame's box.
        in_floats: Whether to compute in floats because 8 bits would lose precision.
    """
    original, frame = view.original(edit), view.frame(edit)
    if in_floats and original.dtype == torch.uint8:
        original = original.float() / 255
    if mask.empty[edit]:
        return original
    return stitched(original, edited, opacity, frame)
