from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from semantic_edit.evaluation.grids import GAP, edit_grid, picture_grid
from semantic_edit.evaluation.metrics import (
    bootstrap_interval,
    bootstrap_samples,
    iou,
    nearest_alternative,
    psnr,
    standard_error,
)


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


def test_a_bootstrap_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([3.0] * 5) == (3.0, 3.0)


def test_a_bootstrap_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(10.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * standard_error(list(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_a_bootstrap_interval_of_a_known_resampling():
    """Of two values the resampled means are the lower, the middle and the higher, a quarter, a half, a quarter."""
    low, high = bootstrap_interval([0.0, 1.0], level=0.6)
    assert (low, high) == (0.0, 1.0)
    low, high = bootstrap_interval([0.0, 1.0], level=0.4)
    assert (low, high) == (0.5, 0.5)


def test_a_picture_is_resampled_with_all_its_edits():
    """Copies of an edit carry no information: the interval stays as wide as with one edit a picture."""
    values = [0.0, 1.0, 4.0, 9.0, 2.0]
    alone = bootstrap_interval(values)
    assert bootstrap_interval(np.repeat(values, 3), np.repeat(range(5), 3)) == pytest.approx(alone)
    low, high = bootstrap_interval(np.repeat(values, 3))
    assert high - low < alone[1] - alone[0]


def test_an_interval_is_that_of_the_means_of_resampled_groups():
    """Of a single edit of one picture and two of another, a mean is 0, 2 (two of three are 3), or 3."""
    assert bootstrap_interval([0.0, 3.0, 3.0], [5, 8, 8], level=0.8) == (0.0, 3.0)
    assert bootstrap_interval([0.0, 3.0, 3.0], [5, 8, 8], level=0.2) == (2.0, 2.0)


def test_bootstrap_samples_are_indices_of_whole_groups():
    for sample in bootstrap_samples([7, 7, 9], draws=20):
        assert sorted(set(sample)) in ([0, 1], [2], [0, 1, 2])
        assert (sample == 0).sum() == (sample == 1).sum()
