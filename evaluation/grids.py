"""Images to look at: grids of samples and of edits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

GAP = 4  # pixels between cells


def image_grid(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Arrange pictures of one size row by row, on white."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        grid.paste(image, (column * (width + GAP), row * (height + GAP)))
    return grid


def edit_grid(
    rows: Sequence[tuple[Image.Image, np.ndarray, np.ndarray, Image.Image, Image.Image]],
) -> Image.Image:
    """One strip per edit, two in a row: before, soft map, mask, after, perfect edit."""
    cells: list[Image.Image] = []
    for before, soft, mask, after, perfect in rows:
        maps = [Image.fromarray((values * 255).astype(np.uint8)).convert("RGB") for values in (soft, mask)]
        cells += [
            before,
            *(one.resize(before.size, Image.Resampling.NEAREST) for one in maps),
            after,
            perfect,
        ]
    return image_grid(cells, columns=2 * 5)
