"""Images as the still-life model's networks take them."""

from __future__ import annotations

import numpy as np
import torch


def as_pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 pictures (batch, height, width, 3) as floats in [-1, 1], (batch, 3, height, width), contiguous."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1.0
