"""Fill a part of an image smoothly from its surroundings, so that nothing of what it showed is left."""

from __future__ import annotations

import torch
import torch.nn.functional as F

SMOOTHING = 16
"""Rounds at each resolution in which every filled pixel becomes the mean of its neighbours."""


def filled_inside(pixels: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Replace the pixels of a part by a smooth continuation of all others.

    Args:
        pixels: (images, channels, height, width), floating point.
        inside: (images or 1, 1, height, width) booleans, true where to fill; not everywhere.

    Returns:
        The same shape; outside of the part, the same bits.

    Source: the pyramid of Gortler et al., "The Lumigraph", 1996, Sec. 3.4, with a few Jacobi iterations of Laplace's
    equation at each level.
    """
    return torch.where(inside, _pyramid_filled(pixels, (~inside).to(pixels)), pixels)


def _pyramid_filled(pixels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Fill where `known`, (images or 1, 1, height, width), is 0 rather than 1."""
    if max(pixels.shape[-2:]) == 1 or bool(known.all()):
        return pixels
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(pixels * known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    coarse = _pyramid_filled(coarse, (weight > 0).to(pixels))
    guess = F.interpolate(coarse, size=pixels.shape[-2:], mode="bilinear", align_corners=False)
    filled = torch.lerp(guess, pixels, known)
    for _ in range(SMOOTHING):
        around = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        mean = (
            around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
        ) / 4
        filled = torch.lerp(mean, pixels, known)
    return filled
