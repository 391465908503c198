from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.editing.similarity import batch_ssim as windowed_ssim
from semantic_edit.evaluation.metrics import as_floats, psnr, ssim


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).random((24, 20, 3))


@pytest.fixture
def left() -> np.ndarray:
    where = np.zeros((24, 20), dtype=bool)
    where[:, :14] = True
    return where


def test_pictures_become_floats_whatever_their_mode():
    assert as_floats(Image.new("L", (2, 3), 255)).shape == (3, 2, 3)
    assert as_floats(Image.new("RGB", (1, 1), (255, 0, 51)))[0, 0] == pytest.approx([1.0, 0.0, 0.2])


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


def test_psnr_of_no_pixels_is_no_number(noise):
    assert math.isnan(psnr(noise, noise, np.zeros((24, 20), dtype=bool)))


def test_ssim_of_a_picture_with_itself(noise, left):
    assert ssim(noise, noise) == pytest.approx(1.0)
    assert ssim(noise, noise, left) == pytest.approx(1.0)


def test_ssim_of_two_greys_is_that_of_their_luminance():
    """Without variance, SSIM is (2 a b + 0.01^2) / (a^2 + b^2 + 0.01^2)."""
    one, two = np.full((12, 12, 3), 0.2), np.full((12, 12, 3), 0.6)
    assert ssim(one, two) == pytest.approx(0.2401 / 0.4001)
    assert ssim(one, two, np.ones((12, 12), dtype=bool)) == pytest.approx(0.2401 / 0.4001)


def test_ssim_over_all_windows_is_that_of_the_picture(noise):
    other = np.clip(noise + 0.2 * np.random.default_rng(1).normal(size=noise.shape), 0, 1)
    everywhere = np.ones(noise.shape[:2], dtype=bool)
    assert 0.1 < ssim(noise, other) < 0.99
    assert ssim(noise, other, everywhere) == pytest.approx(ssim(noise, other))


def test_ssim_inside_a_rectangle_is_that_of_the_rectangle(noise, left):
    other = np.clip(noise + 0.2 * np.random.default_rng(1).normal(size=noise.shape), 0, 1)
    cut = [torch.from_numpy(one[:, :14]).movedim(-1, 0)[None] for one in (noise, other)]
    assert ssim(noise, other, left) == pytest.approx(windowed_ssim(*cut).item())


def test_what_changes_elsewhere_has_no_say(noise, left):
    other = np.where(left[..., None], noise, 1 - noise)
    assert ssim(noise, other, left) == pytest.approx(1.0)
    assert ssim(noise, other) < 0.9


def test_ssim_where_no_window_fits_is_no_number(noise, left):
    assert math.isnan(ssim(noise, noise, ~left))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_pictures_of_two_sizes_are_refused(measure):
    small, large = Image.new("RGB", (16, 16)), Image.new("RGB", (16, 32))
    with pytest.raises(ValueError, match=r"must have one size, got 16 x 16, 16 x 32 pixels\. Resize"):
        measure(small, large)
    with pytest.raises(ValueError, match="must have one size"):
        measure(small, small, np.ones((4, 4), dtype=bool))


def test_ssim_needs_room_for_a_window():
    with pytest.raises(ValueError, match="at least 11 pixels, got 12 x 10"):
        ssim(Image.new("RGB", (12, 10)), Image.new("RGB", (12, 10)))
