"""The sizes that an SDXL denoiser is told while it learns: the picture's own, and those that it had before."""

from __future__ import annotations

import torch

from semantic_edit.still_life.rendering import SIDE

LARGER, ANY = 0.2, 0.1  # the shares of pictures that are said to have been larger, and to have any size


def drawn_sizes(reductions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Time ids, (batch, 6) floats: original height and width, the crop's corner, target height and width, in pixels.

    Of the pictures that were not reduced, most have their own size. For some the original is larger, as if it had been
    scaled down; for a few, original and target are any size from there on, so that other sizes than the training
    pictures' disturb nothing.

    Args:
        reductions: What each picture was scaled down by, and up again: whole numbers, (batch,). Its original is so much
            smaller, and what is told of it is the truth.
    """
    count, whole = len(reductions), reductions == 1
    rows = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]]).repeat(count, 1)
    rows[:, :2] //= reductions[:, None]
    share = torch.rand(count, generator=generator)
    larger, anyhow = whole & (share < LARGER), whole & (share >= 1 - ANY)
    scale = torch.randint(2, 9, (count, 1), generator=generator)
    sides = torch.randint(SIDE // 8, SIDE // 2 + 1, (count, 2), generator=generator) * 8
    rows[:, :2] = torch.where(larger[:, None], scale * SIDE, rows[:, :2])
    rows[:, :2] = torch.where(anyhow[:, None], sides, rows[:, :2])
    rows[:, 4:] = torch.where(anyhow[:, None], sides, rows[:, 4:])
    return rows.float()
