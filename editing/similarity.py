"""How similar two images are."""

from __future__ import annotations

import torch


def batch_psnr(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, (batch,), of images (batch, channels, height, width) in [0, 1].

    It is infinite for equal images.
    """
    return -10 * (first.cpu().double() - second.cpu().double()).square().flatten(1).mean(1).log10()


def batch_ssim(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Structural similarity in [-1, 1], (batch,): the mean of [`ssim_map`]."""
    return ssim_map(first, second).flatten(1).mean(1)


def ssim_map(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Structural similarity window by window, of images (batch, channels, height, width) in [0, 1].

    Windows are Gaussian, with a standard deviation of 1.5 pixels over 11 x 11 pixels; only windows inside the image are
    used, so sides must be at least 11.

    Returns:
        (batch, channels, height - 10, width - 10), each value at the place of its window's upper left corner.

    Source: Wang et al., IEEE Trans. Image Processing 13(4), 2004.
    """
    offsets = torch.arange(-5.0, 6.0, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / 1.5).square())
    kernel = kernel / kernel.sum()

    def smoothed(images: torch.Tensor) -> torch.Tensor:
        along_rows = images.unfold(-1, len(kernel), 1) @ kernel
        return along_rows.unfold(-2, len(kernel), 1) @ kernel

    one, two = first.cpu().double(), second.cpu().double()
    mean_one, mean_two = smoothed(one), smoothed(two)
    variance_one = smoothed(one.square()) - mean_one.square()
    variance_two = smoothed(two.square()) - mean_two.square()
    covariance = smoothed(one * two) - mean_one * mean_two
    small, smaller = 0.01**2, 0.03**2
    luminance = (2 * mean_one * mean_two + small) / (mean_one.square() + mean_two.square() + small)
    structure = (2 * covariance + smaller) / (variance_one + variance_two + smaller)
    return luminance * structure
