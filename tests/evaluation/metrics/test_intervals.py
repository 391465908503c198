from __future__ import annotations

import math

import numpy as np
import pytest

from semantic_edit.evaluation.metrics import bootstrap_interval, bootstrap_samples, standard_error


def test_the_standard_error_of_a_mean():
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert math.isnan(standard_error([1.0]))


def test_a_bootstrap_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([3.0] * 5) == (3.0, 3.0)


def test_a_bootstrap_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(10.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * standard_error(list(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_a_bootstrap_interval_of_a_known_resampling():
    """The resampled means of two values are the lower, the middle and the higher, in proportions 1 : 2 : 1."""
    low, high = bootstrap_interval([0.0, 1.0], level=0.6)
    assert (low, high) == (0.0, 1.0)
    low, high = bootstrap_interval([0.0, 1.0], level=0.4)
    assert (low, high) == (0.5, 0.5)


def test_a_picture_is_resampled_with_all_its_edits():
    """Copies of an edit add no information: the interval stays as wide as with one edit per image."""
    values = [0.0, 1.0, 4.0, 9.0, 2.0]
    alone = bootstrap_interval(values)
    assert bootstrap_interval(np.repeat(values, 3), np.repeat(range(5), 3)) == pytest.approx(alone)
    low, high = bootstrap_interval(np.repeat(values, 3))
    assert high - low < alone[1] - alone[0]


def test_an_interval_is_that_of_the_means_of_resampled_groups():
    """With one edit of one image and two of another, a resampled mean is 0, 2 (two of three are 3) or 3."""
    assert bootstrap_interval([0.0, 3.0, 3.0], [5, 8, 8], level=0.8) == (0.0, 3.0)
    assert bootstrap_interval([0.0, 3.0, 3.0], [5, 8, 8], level=0.2) == (2.0, 2.0)


def test_bootstrap_samples_are_indices_of_whole_groups():
    for sample in bootstrap_samples([7, 7, 9], draws=20):
        assert sorted(set(sample)) in ([0, 1], [2], [0, 1, 2])
        assert (sample == 0).sum() == (sample == 1).sum()
