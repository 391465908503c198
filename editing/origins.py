"""Masks as images that record which part of which picture they were found in."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import torch

from semantic_edit.disk.frames import FRAME_RULE
from semantic_edit.disk.reading import check_fields, parse_object
from semantic_edit.editing.frames import Frame

MASK_ORIGIN = "semantic_edit.frame"
"""The key under which a mask image, and a PNG file's text, store the frame."""


def mask_as_image(mask: torch.Tensor, frame: Frame | None = None) -> PIL.Image.Image:
    """A mask, (1, height, width) in [0, 1], as a greyscale image that records its frame."""
    image = PIL.Image.fromarray(np.uint8(np.round(mask[0].float().clamp(0, 1).cpu().numpy() * 255.0)))
    if frame is not None:
        image.info[MASK_ORIGIN] = json.dumps(frame.stored())
    return image


def origins_of(mask: object) -> tuple[Frame | None, ...]:
    """The frames that a mask, or each of a list of masks, records; `None` for one that records none.

    Raises:
        ValueError: If a recorded frame is not valid.
    """
    masks = mask if isinstance(mask, (list, tuple)) else [mask]
    return tuple(_origin_of(one) for one in masks)


def _origin_of(mask: object) -> Frame | None:
    text = mask.info.get(MASK_ORIGIN) if isinstance(mask, PIL.Image.Image) else None
    if text is None:
        return None
    where = f"What `mask_image` remembers as {MASK_ORIGIN!r}"
    check_fields({"frame": (stored := parse_object(str(text), where))}, {"frame": FRAME_RULE}, where)
    return Frame.read(stored)
