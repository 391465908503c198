from __future__ import annotations

import numpy as np
from PIL import Image

from semantic_edit.evaluation.grids import GAP, edit_grid, image_grid


def test_grids_have_a_cell_for_each_picture():
    cell = Image.new("RGB", (10, 6), "red")
    assert image_grid([cell] * 5, columns=3).size == (3 * (10 + GAP) - GAP, 2 * (6 + GAP) - GAP)
    maps = np.ones((2, 2))
    assert edit_grid([(cell, maps, maps, cell, cell)] * 2).size == (10 * (10 + GAP) - GAP, 6)
