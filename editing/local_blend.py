"""LocalBlend: confine an edit to the regions that attend to its words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

BLEND_FROM = 0.2  # fraction of the steps before LocalBlend sets in, as in Prompt-to-Prompt


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


def word_regions(
    maps: torch.Tensor, words: Sequence[Sequence[int]], size: tuple[int, int], threshold: float
) -> torch.Tensor:
    """Where each row's words are attended to; see `attended_region`.

    Args:
        maps: (batch, rows, columns, tokens).
        words: For each row of the batch the tokens of its words; without any it has no region.
        size: The latents' height and width.
        threshold: As for `attended_region`.

    Returns:
        (batch, 1, height, width): 1.0 inside, 0.0 outside.
    """
    empty = maps.new_zeros(maps.shape[1:3])
    attention = [
        row[..., list(tokens)].mean(dim=-1) if tokens else empty
        for row, tokens in zip(maps, words, strict=True)
    ]
    return attended_region(torch.stack(attention), *size, threshold=threshold)


def blend_into_source(
    target: torch.Tensor, source: torch.Tensor, inside: torch.Tensor | None
) -> torch.Tensor:
    """The target's latents inside, the source's outside; shapes must broadcast.

    Args:
        target, source: Latents.
        inside: Weights in [0, 1]; `None` returns the target.
    """
    return target if inside is None else torch.lerp(source.expand_as(target), target, inside)
