"""Read the masks that callers bring, and change the shape of masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from semantic_edit.editing.numbers import native_tensor, unit_floats
from semantic_edit.editing.pillow import SIXTEEN_BIT_MODES, upright

OneMask = PIL.Image.Image | np.ndarray | torch.Tensor
MaskInput = OneMask | Sequence[OneMask]
WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0}


def mask_to_tensor(mask: MaskInput) -> torch.Tensor:
    """Read a mask, or a list of masks, without modifying it.

    Args:
        mask: An image of any mode (its luminance is used, and transparency counts as 0), or an array or tensor of shape
            (height, width), (batch, height, width) or (batch, 1, height, width); boolean, unsigned 8 or 16 bits, or
            floats in [0, 1]. The integer type's maximum is 1.0, unless there are only zeros and ones.

    Returns:
        (batch, 1, height, width) in float32, in [0, 1].

    Raises:
        ValueError: If the shape, type or range is different, values are not finite, or a list mixes sizes.
    """
    if isinstance(mask, (list, tuple)):
        if not mask:
            raise ValueError("`mask_image` is an empty list; pass one mask for all, or one for each picture.")
        parts = [mask_to_tensor(one) for one in mask]
        sizes = sorted({(part.shape[-1], part.shape[-2]) for part in parts})
        if len(sizes) > 1:
            raise ValueError(
                f"The masks in `mask_image` differ in size (width, height): {sizes}; resize them."
            )
        return torch.cat(parts)
    if isinstance(mask, PIL.Image.Image):
        return _mask_from_image(mask)
    if isinstance(mask, (np.ndarray, torch.Tensor)):
        return _mask_from_values(native_tensor("mask_image", mask))
    raise ValueError(
        "`mask_image` must be a PIL image, a numpy array, a torch tensor or a list of them, got "
        f"{type(mask).__name__}."
    )


def _mask_from_image(mask: PIL.Image.Image) -> torch.Tensor:
    mask = upright("mask_image", mask)
    if mask.mode in SIXTEEN_BIT_MODES:
        return _mask_from_values(native_tensor("mask_image", np.asarray(mask).astype(np.uint16)))
    if mask.mode in ("I", "F"):
        raise ValueError(
            f"`mask_image` has mode {mask.mode!r}, whose range is not known. Convert it so that white is 1: "
            "pass `numpy.asarray(mask) / its_maximum`, or save it as an 8-bit picture."
        )
    if not mask.has_transparency_data:
        return _mask_from_values(torch.from_numpy(np.array(mask.convert("L"))))
    light, opacity = mask.convert("RGBA").convert("LA").split()
    return _mask_from_values(torch.from_numpy(np.array(light))) * (torch.from_numpy(np.array(opacity)) / 255)


def _mask_from_values(mask: torch.Tensor) -> torch.Tensor:
    shape = tuple(mask.shape)
    if mask.ndim == 4 and shape[1] != 1 and shape[-1] == 1:
        mask = mask.movedim(-1, 1)
    elif mask.ndim == 3 and shape[-1] == 1 and shape[0] != 1:
        mask = mask.movedim(-1, 0)
    is_coloured = mask.ndim == 3 and shape[-1] in (3, 4)
    if mask.ndim == 2:
        mask = mask[None, None]
    elif mask.ndim == 3:
        mask = mask[:, None]
    if mask.ndim != 4 or mask.shape[1] != 1 or 0 in mask.shape or is_coloured:
        raise ValueError(
            "`mask_image` must have shape (height, width), (batch, height, width) or (batch, 1, height, "
            f"width), got {shape}. A mask has one channel: for a colour picture pass the PIL image, or its "
            "mean over channels."
        )
    if mask.dtype in WHITE:
        values = mask.float()
        # zeros and ones are a mask, not a nearly black picture
        return values if float(values.max()) <= 1 else values / WHITE[mask.dtype]
    return unit_floats(
        "mask_image",
        mask,
        "Divide it by its maximum, or pass it as 8-bit integers, of which 255 is 1.0.",
    )


def resize_mask(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize a mask (batch, 1, any, any) to `height` x `width`; integer multiples repeat each value exactly."""
    own_height, own_width = mask.shape[-2:]
    if (own_height, own_width) == (height, width):
        return mask
    if height % own_height == 0 and width % own_width == 0:
        rows = mask.repeat_interleave(height // own_height, dim=-2)
        return rows.repeat_interleave(width // own_width, dim=-1)
    resized = F.interpolate(mask, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp(0, 1)


def grow_mask(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """Dilate a mask by a number of pixels on every side, or erode it if the number is negative.

    A picture's border is not an edge of the mask: an eroded mask still touches it.

    Args:
        mask: (batch, 1, height, width).
        pixels: How far.
    """
    if pixels == 0:
        return mask
    if pixels < 0:
        return 1 - grow_mask(1 - mask, -pixels)
    reach, missing = 0, min(pixels, max(mask.shape[-2:]))
    mask = F.pad(mask, [missing] * 4, value=-math.inf)  # each step removes some of the padding again
    while missing:
        # each step shifts a mask that is already dilated by `reach`, so that a few steps reach any distance
        step = min(missing, 2 * reach + 1)
        mask = F.max_pool2d(mask, 3, stride=1, dilation=step)
        reach, missing = reach + step, missing - step
    return mask


def feather_mask(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur a mask by a Gaussian, cut off at three standard deviations.

    Farther than that from its edge, the mask keeps its value exactly.

    Args:
        mask: (batch, 1, height, width).
        sigma: Standard deviation in pixels.
    """
    if sigma == 0:
        return mask
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).to(mask)
    # one dimension after the other: padded in both at once, a mask of 512 pixels took gigabytes under a wide blur
    blurred = F.conv2d(F.pad(mask, (radius, radius, 0, 0), mode="replicate"), kernel[None, None, None, :])
    blurred = F.conv2d(F.pad(blurred, (0, 0, radius, radius), mode="replicate"), kernel[None, None, :, None])
    # the weights sum to 1 only up to rounding, but untouched regions must stay exactly 0 and 1
    low, high = -grow_mask(-mask, radius), grow_mask(mask, radius)
    return torch.minimum(torch.maximum(blurred, low), high)


def mask_to_latents(pixel_mask: torch.Tensor, factor: int) -> torch.Tensor:
    """Average a mask (batch, 1, height, width) over the `factor` x `factor` pixels of each latent."""
    return F.avg_pool2d(pixel_mask, factor)


@dataclass(frozen=True)
class MaskShape:
    """What is done to a mask's outline, in pixels.

    grow: Dilates; negative values erode.
    feather: Standard deviation of the Gaussian that softens the edge.
    room: How far beyond the mask latents may change if pixels outside it are pasted back at the end: a latent covers
        several pixels, and one that the mask's outline cuts through must be free to change as a whole.
    """

    grow: int = 0
    feather: float = 0.0
    room: int = 0


def shape_mask(mask: torch.Tensor, height: int, width: int, shape: MaskShape) -> torch.Tensor:
    """Resize a mask to the picture, grow it, then feather it.

    Args:
        mask: (batch, 1, any, any) in [0, 1].
        height, width: The picture's size in pixels.
        shape: How to grow and feather it.

    Returns:
        (batch, 1, height, width).
    """
    return feather_mask(grow_mask(resize_mask(mask, height, width), shape.grow), shape.feather)
