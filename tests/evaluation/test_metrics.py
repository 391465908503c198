from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from semantic_edit.evaluation.grids import GAP, edit_grid, picture_grid
from semantic_edit.evaluation.metrics import iou, nearest_alternative, psnr, standard_error


def test_psnr_of_a_known_error():
    grey = np.full((4, 4, 3), 0.5)
    assert psnr(grey, grey + 0.1) == pytest.approx(20.0)
    assert psnr(grey, grey) == math.inf


def test_psnr_can_be_confined_to_a_region():
    first, second = np.zeros((4, 4, 3)), np.zeros((4, 4, 3))
    second[:2] = 1.0
    top = np.zeros((4, 4), dtype=bool)
    top[:2] = True
    assert psnr(first, second, top) == pytest.approx(0.0)
    assert psnr(first, second, ~top) == math.inf


def test_iou_counts_pixels():
    first, second = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    first[:2], second[1:3] = True, True
    assert iou(first, second) == pytest.approx(4 / 12)
    assert iou(first, ~first) == 0.0
    assert iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1.0


def test_the_nearest_alternative_is_judged_inside_the_region_alone():
    pictures = {word: Image.new("RGB", (4, 4), word) for word in ("red", "green", "blue")}
    result = np.zeros((4, 4, 3), dtype=np.uint8)
    result[:2] = (0, 100, 10)
    result[2:] = (255, 0, 0)
    top = np.zeros((4, 4), dtype=bool)
    top[:2] = True
    assert nearest_alternative(Image.fromarray(result), pictures, top) == "green"
    assert nearest_alternative(Image.fromarray(result), pictures, ~top) == "red"


def test_the_standard_error_of_a_mean():
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert math.isnan(standard_error([1.0]))


def test_grids_have_a_cell_for_each_picture():
    cell = Image.new("RGB", (10, 6), "red")
    assert picture_grid([cell] * 5, columns=3).size == (3 * (10 + GAP) - GAP, 2 * (6 + GAP) - GAP)
    maps = np.ones((2, 2))
    assert edit_grid([(cell, maps, maps, cell, cell)] * 2).size == (10 * (10 + GAP) - GAP, 6)
