"""Cut out a part of a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image


def only_inside(image: Image.Image, where: np.ndarray) -> Image.Image:
    """The picture in RGB, black outside `where`, booleans (height, width).

    Raises:
        ValueError: If the sizes differ.
    """
    pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[:2] != where.shape:
        raise ValueError(
            f"The mask must be as large as the picture, {image.width} x {image.height} pixels, "
            f"got {where.shape[1]} x {where.shape[0]}."
        )
    return Image.fromarray(np.where(where[..., None], pixels, np.uint8(0)))
