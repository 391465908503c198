"""What the eye notices of an edit: leftovers and seams."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semantic_edit.evaluation.metrics import leftover, seam, surroundings

SIDE = 32
CHANGED = np.zeros((SIDE, SIDE), bool)
CHANGED[8:24, 8:24] = True


def painted(colour: tuple[float, float, float]) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), 0.5)
    picture[CHANGED] = colour
    return picture


RED, GREEN = painted((0.8, 0.1, 0.1)), painted((0.1, 0.8, 0.1))


def test_the_perfect_edit_leaves_nothing_and_the_untouched_picture_all():
    assert leftover(GREEN, RED, GREEN, CHANGED) == 0
    assert leftover(RED, RED, GREEN, CHANGED) == 1
    assert math.isnan(leftover(RED, RED, GREEN, np.zeros_like(CHANGED)))


def test_half_an_edit_leaves_half():
    half = RED.copy()
    half[:, :16] = GREEN[:, :16]
    assert leftover(half, RED, GREEN, CHANGED) == pytest.approx(0.5)
    outside = RED.copy()
    outside[:4] = 0.0  # what happens outside the change has no say
    assert leftover(outside, RED, GREEN, CHANGED) == 1


def test_a_cut_along_the_objects_outline_adds_no_seam():
    assert seam(GREEN, RED, GREEN, CHANGED) == 0
    nothing = np.zeros_like(CHANGED)
    assert math.isnan(seam(GREEN, RED, GREEN, nothing))
    assert math.isnan(seam(GREEN, RED, GREEN, ~nothing))


def test_a_cut_through_the_object_or_beside_it_is_seen():
    mask = np.zeros_like(CHANGED)
    mask[8:24, 8:15] = True
    through = RED.copy()
    through[mask] = GREEN[mask]
    assert seam(through, RED, GREEN, mask) > 5
    wide = np.zeros_like(CHANGED)
    wide[4:28, 4:28] = True
    ghost = GREEN.copy()
    ghost[wide & ~CHANGED] += 0.2  # the ground inside the mask has another tone
    assert seam(ghost, RED, GREEN, wide) > 5
    fainter = GREEN + 0.25 * (ghost - GREEN)
    assert 0 < seam(fainter, RED, GREEN, wide) < seam(ghost, RED, GREEN, wide)


def test_surroundings_touch_the_change_and_leave_it_out():
    around = surroundings(CHANGED)
    assert not (around & CHANGED).any()
    assert around[0:8, 8:24].all()
    assert not around[CHANGED].any()
    assert around.sum() == SIDE * SIDE - CHANGED.sum()  # eight pixels reach the border here
