"""LocalBlend: confine an edit to the regions that attend to its words."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def attended_region(maps: torch.Tensor, height: int, width: int, threshold: float = 0.3) -> torch.Tensor:
    """Where words are attended to, in latent pixels.

    Args:
        maps: (batch, rows, columns), the mean attention to one or more words; not negative.
        height, width: The latent's.
        threshold: Fraction of a map's maximum, in (0, 1), above which a position belongs to the region.

    Returns:
        (batch, 1, height, width) in float32: 1.0 inside, 0.0 outside. A map of zeros has no region.

    Source: Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2, "local editing", and its published code.
    """
    widened = F.max_pool2d(maps[:, None].float(), 3, stride=1, padding=1)
    resized = F.interpolate(widened, size=(height, width))
    highest = resized.amax((1, 2, 3), keepdim=True)
    return ((resized > threshold * highest) & (highest > 0)).float()


def blend_into_source(
    target: torch.Tensor, source: torch.Tensor, inside: torch.Tensor | None
) -> torch.Tensor:
    """The target's latents inside, the source's outside; shapes must broadcast.

    Args:
        target, source: Latents.
        inside: Weights in [0, 1]; `None` returns the target.
    """
    return target if inside is None else torch.lerp(source.expand_as(target), target, inside)
