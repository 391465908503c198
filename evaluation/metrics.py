"""Distances between pictures, and verdicts on edits whose right answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image


def as_floats(picture: Image.Image | np.ndarray) -> np.ndarray:
    """RGB in [0, 1], float64, (height, width, 3); arrays are taken as they are."""
    return (
        np.asarray(picture.convert("RGB")) / 255.0
        if isinstance(picture, Image.Image)
        else np.asarray(picture)
    )


def psnr(
    first: Image.Image | np.ndarray, second: Image.Image | np.ndarray, where: np.ndarray | None = None
) -> float:
    """Peak signal-to-noise ratio in dB; `where`, booleans (height, width), confines it. Equal pictures: infinity."""
    squared = (as_floats(first) - as_floats(second)) ** 2
    error = float(squared.mean() if where is None else squared[where].mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boolean masks; two empty masks agree entirely."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def nearest_alternative(
    result: Image.Image, alternatives: Mapping[str, Image.Image], where: np.ndarray
) -> str:
    """The word whose render is nearest to the result (squared error) inside `where`, booleans (height, width)."""
    pixels = as_floats(result)[where]
    errors = {word: ((as_floats(render)[where] - pixels) ** 2).sum() for word, render in alternatives.items()}
    return min(errors, key=errors.__getitem__)


def standard_error(values: list[float] | list[bool]) -> float:
    """Of the mean."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
