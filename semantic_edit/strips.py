"""One picture that shows an edit: before | soft map | mask | after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import torch

PANEL_HEIGHT = 256
GAP = 8
CAPTION_HEIGHT = 24


def edit_strip(
    before: Image.Image, after: Image.Image, mask: torch.Tensor, soft_mask: torch.Tensor | None = None
) -> Image.Image:
    """Draw one edit.

    Args:
        before, after: Upright pictures of one size.
        mask, soft_mask: (batch, 1, height, width) in [0, 1], of which the first are drawn; there is no soft map where
            the mask was given.
    """
    panels = {"before": before}
    if soft_mask is not None:
        panels["soft map"] = _grey(soft_mask).resize(before.size, Image.Resampling.BICUBIC)
    return strip({**panels, "mask": mask_picture(mask, before.size), "after": after})


def mask_picture(mask: torch.Tensor, size: tuple[int, int]) -> Image.Image:
    """The first of (batch, 1, height, width) weights at `size` (width, height), each cell a block of pixels."""
    return _grey(mask).resize(size, Image.Resampling.NEAREST)


def strip(panels: Mapping[str, Image.Image]) -> Image.Image:
    """Set captioned pictures side by side on white, small ones enlarged to `PANEL_HEIGHT`."""
    height = max(PANEL_HEIGHT, *(picture.height for picture in panels.values()))
    scaled = {caption: _at_height(picture.convert("RGB"), height) for caption, picture in panels.items()}
    width = sum(picture.width for picture in scaled.values()) + GAP * (len(scaled) + 1)
    canvas = Image.new("RGB", (width, CAPTION_HEIGHT + height + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    left = GAP
    for caption, picture in scaled.items():
        draw.text((left + picture.width // 2, CAPTION_HEIGHT // 2), caption, "black", font, anchor="mm")
        canvas.paste(picture, (left, CAPTION_HEIGHT))
        left += picture.width + GAP
    return canvas


def _grey(mask: torch.Tensor) -> Image.Image:
    """The first of (batch, 1, height, width) values in [0, 1] as an 8-bit picture."""
    values = mask[0, 0].float().clamp(0.0, 1.0).cpu().numpy()
    return Image.fromarray(np.uint8(np.round(values * 255.0)))


def _at_height(picture: Image.Image, height: int) -> Image.Image:
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.BICUBIC)
