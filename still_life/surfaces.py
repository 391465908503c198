"""The surfaces that still lifes stand on: periodic colour textures made of filtered noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

TEXTURE_SIDE = 256
Array = np.ndarray


def _noise(seed: int, wavelength_x: float, wavelength_y: float) -> Array:
    """Periodic Gaussian noise of unit variance, smoothed below the two wavelengths (in texels)."""
    white = np.random.default_rng(seed).standard_normal((TEXTURE_SIDE, TEXTURE_SIDE))
    frequency = np.fft.fftfreq(TEXTURE_SIDE)
    damping = (frequency[None, :] * wavelength_x) ** 2 + (frequency[:, None] * wavelength_y) ** 2
    smooth = np.fft.ifft2(np.fft.fft2(white) * np.exp(-2.0 * damping)).real
    return (smooth - smooth.mean()) / smooth.std()


def _coloured(tone: Array, low: tuple[float, ...], high: tuple[float, ...]) -> Array:
    """Blend two RGB colours by a tone, clipped to [0, 1]."""
    share = np.clip(tone, 0.0, 1.0)[..., None]
    return np.array(low) * (1 - share) + np.array(high) * share


def _wood(seed: int, low: tuple[float, ...], high: tuple[float, ...]) -> Array:
    rows = np.arange(TEXTURE_SIDE)[:, None]
    rings = np.sin(2 * np.pi * (rows / 32 + 0.45 * _noise(seed, 220, 30)))
    tone = 0.55 + 0.20 * rings + 0.10 * _noise(seed + 1, 70, 5)
    plank = rows // 64
    tone = tone + np.array([0.0, 0.10, -0.08, 0.05])[plank % 4]
    seam = np.clip(1.5 - np.abs(rows % 64 - 32), 0, 1) * 0.45
    return _coloured(tone - seam, low, high)


def _light_wood() -> Array:
    return _wood(11, (0.62, 0.44, 0.26), (0.90, 0.74, 0.52))


def _dark_wood() -> Array:
    return _wood(23, (0.17, 0.09, 0.05), (0.42, 0.25, 0.15))


def _marble() -> Array:
    veins = np.exp(-((_noise(31, 60, 60) + 0.5 * _noise(32, 22, 22)) ** 2) * 14)
    tone = 0.82 + 0.07 * _noise(33, 90, 90) - 0.5 * veins
    return _coloured(tone, (0.48, 0.50, 0.55), (0.95, 0.95, 0.94))


def _grass() -> Array:
    tone = 0.5 + 0.15 * _noise(41, 5, 14) + 0.12 * _noise(42, 30, 30)
    return _coloured(tone, (0.10, 0.30, 0.06), (0.46, 0.66, 0.22))


def _sand() -> Array:
    ripples = np.sin(2 * np.pi * (np.arange(TEXTURE_SIDE)[:, None] / 32 + 0.35 * _noise(51, 60, 60)))
    tone = 0.55 + 0.16 * ripples + 0.10 * _noise(52, 6, 6)
    return _coloured(tone, (0.66, 0.54, 0.36), (0.95, 0.86, 0.66))


def _checked_cloth() -> Array:
    wave = np.sin(2 * np.pi * np.arange(TEXTURE_SIDE) / 64)
    band = np.clip(0.5 + 4 * wave, 0, 1)
    tone = 1.0 - 0.5 * (band[:, None] + band[None, :]) + 0.02 * _noise(61, 4, 4)
    return _coloured(tone, (0.16, 0.28, 0.48), (0.93, 0.93, 0.92))


_MAKERS: dict[str, Callable[[], Array]] = {
    "light wood": _light_wood,
    "dark wood": _dark_wood,
    "marble": _marble,
    "grass": _grass,
    "sand": _sand,
    "checked cloth": _checked_cloth,
}
SURFACES: tuple[str, ...] = tuple(_MAKERS)


@cache
def texture(surface: str) -> Array:
    """RGB in [0, 1], float32, (TEXTURE_SIDE + 1, TEXTURE_SIDE + 1, 3); the last row and column repeat the first."""
    tile = _MAKERS[surface]().clip(0.0, 1.0).astype(np.float32)
    return np.pad(tile, ((0, 1), (0, 1), (0, 0)), mode="wrap")


@cache
def mean_colour(surface: str) -> Array:
    """The texture's mean RGB, float32, (3,)."""
    return texture(surface).mean(axis=(0, 1))
