"""How similar two pictures are, pixel by pixel and window by window."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image

from semantic_edit.editing import ssim_map

WINDOW = 11  # pixels per side of SSIM's window

ImageLike = Image.Image | np.ndarray


def as_floats(image: ImageLike) -> np.ndarray:
    """RGB in [0, 1], float64, (height, width, 3); arrays are returned as they are."""
    return np.asarray(image.convert("RGB")) / 255.0 if isinstance(image, Image.Image) else np.asarray(image)


def as_planes(image: Image.Image) -> torch.Tensor:
    """RGB in 8 bits, (1, 3, height, width)."""
    return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0)[None]


def psnr(first: ImageLike, second: ImageLike, where: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB.

    Args:
        first, second: Images of one size; arrays are (height, width, 3) in [0, 1].
        where: Booleans (height, width): the pixels that count.

    Returns:
        Infinity for equal pictures, NaN if no pixel counts.

    Raises:
        ValueError: If the sizes differ.
    """
    one, two = _same_sized(first, second, where)
    squared = (one - two) ** 2 if where is None else (one[where] - two[where]) ** 2
    if not squared.size:
        return math.nan
    error = float(squared.mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(first: ImageLike, second: ImageLike, where: np.ndarray | None = None) -> float:
    """Structural similarity in [-1, 1], by Gaussian windows of 11 x 11 as in `editing.similarity.ssim_map`.

    Args:
        first, second: Images of one size, with sides of at least 11; arrays are (height, width, 3) in [0, 1].
        where: Booleans (height, width). Only windows that lie entirely inside it count, so that nothing outside has any
            influence. (Images multiplied by a mask, as in PIE-Bench, would agree in all of the black.)

    Returns:
        The mean over windows and channels; NaN if no window fits into `where`.

    Raises:
        ValueError: If the sizes differ or a side is below 11.
    """
    one, two = (torch.from_numpy(array).movedim(-1, 0)[None] for array in _same_sized(first, second, where))
    if min(one.shape[2:]) < WINDOW:
        height, width = one.shape[2:]
        raise ValueError(f"SSIM needs sides of at least {WINDOW} pixels, got {width} x {height}.")
    similar = ssim_map(one, two)
    if where is not None:
        inside = np.lib.stride_tricks.sliding_window_view(where, (WINDOW, WINDOW)).all((-1, -2))
        similar = similar[..., torch.from_numpy(inside)]
    return similar.mean().item() if similar.numel() else math.nan


def _same_sized(
    first: ImageLike, second: ImageLike, where: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    arrays = as_floats(first), as_floats(second)
    sizes = [array.shape[:2] for array in arrays] + ([] if where is None else [where.shape])
    if len(set(sizes)) > 1:
        got = ", ".join(f"{width} x {height}" for height, width in sizes)
        raise ValueError(
            f"Images to compare, and the mask, must have one size, got {got} pixels. Resize them beforehand."
        )
    return arrays
