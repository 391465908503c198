"""One picture that shows an edit: before | soft map | mask | after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import torch

    from semantic_edit.pipelines import DiffEditPipelineOutput

PANEL_HEIGHT = 256
GAP = 8
CAPTION_HEIGHT = 24


def edit_strip(before: Image.Image, output: DiffEditPipelineOutput) -> Image.Image:
    """Draw the first edit of `output`, made of the picture `before`, which is RGB and upright."""
    panels = {"before": before}
    if output.soft_mask is not None:  # there is none with a mask of the caller's own
        panels["soft map"] = _grey(output.soft_mask).resize(before.size, Image.Resampling.BICUBIC)
    return strip({**panels, "mask": mask_picture(output, before.size), "after": output.images[0]})


def mask_picture(output: DiffEditPipelineOutput, size: tuple[int, int]) -> Image.Image:
    """The first mask of `output` in black, white and grey, each latent cell a block of pixels."""
    return _grey(output.mask).resize(size, Image.Resampling.NEAREST)


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
