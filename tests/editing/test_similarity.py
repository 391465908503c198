import math

import numpy as np
import pytest
import torch

from semantic_edit.editing.similarity import batch_psnr, batch_ssim


@pytest.fixture
def pictures():
    """Three pictures of 17 x 14 pixels, and each with some noise."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 3, 17, 14, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    return clean, (clean + 0.1 * noise).clamp(0, 1)


def windowed_ssim(first, second):
    """The definition, window by window and channel by channel, of (channels, height, width)."""
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for one, two in zip(first.double().numpy(), second.double().numpy(), strict=True):
        for top in range(one.shape[0] - 10):
            for left in range(one.shape[1] - 10):
                x, y = (picture[top : top + 11, left : left + 11] for picture in (one, two))
                mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
                variance_x = (weights * (x - mean_x) ** 2).sum()
                variance_y = (weights * (y - mean_y) ** 2).sum()
                covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
                luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
                structure = (2 * covariance + 9e-4) / (variance_x + variance_y + 9e-4)
                values.append(luminance * structure)
    return np.mean(values)


def test_ssim_is_the_mean_over_windows(pictures):
    expected = [windowed_ssim(one, two) for one, two in zip(*pictures, strict=True)]
    np.testing.assert_allclose(batch_ssim(*pictures), expected, rtol=1e-10)


def test_ssim_of_equal_opposite_and_flat_pictures(pictures):
    clean, noisy = pictures
    torch.testing.assert_close(batch_ssim(clean, clean), torch.ones(3, dtype=torch.float64))
    assert (batch_ssim(clean, 1 - clean) < 0).all()
    torch.testing.assert_close(batch_ssim(clean, noisy), batch_ssim(noisy, clean))
    flat, grey = torch.zeros(1, 1, 11, 11), torch.full((1, 1, 11, 11), 0.5)
    assert batch_ssim(flat, grey).item() == pytest.approx(1e-4 / (0.25 + 1e-4))


def test_psnr_in_decibels(pictures):
    clean, noisy = pictures
    error = (clean - noisy).double().square().mean((1, 2, 3))
    torch.testing.assert_close(batch_psnr(clean, noisy), -10 * error.log10())
    flat = torch.zeros(1, 3, 2, 2)
    assert batch_psnr(flat, flat + 0.1).item() == pytest.approx(20, abs=1e-5)
    assert batch_psnr(clean, clean).tolist() == [math.inf] * 3


def test_each_picture_is_measured_alone(pictures):
    clean, noisy = pictures
    for measure in (batch_psnr, batch_ssim):
        alone = [measure(clean[index : index + 1], noisy[index : index + 1]) for index in range(3)]
        torch.testing.assert_close(measure(clean, noisy), torch.cat(alone))
