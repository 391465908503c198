"""What the eye notices about an edit with a known perfect result: what is left of the old, and where it was cut."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from semantic_edit.editing import grow_mask
from semantic_edit.evaluation.metrics.similarity import ImageLike, as_floats

AROUND = 8  # pixels beyond the changed ones that count as their surroundings
EDGE = 2  # pixels on either side of a mask's outline in which a seam would be visible
NEAR = 2  # pixels within which an edge in a render explains an edge in the result


def leftover(result: ImageLike, source: ImageLike, target: ImageLike, changed: np.ndarray) -> float:
    """The fraction of the truly changed pixels that end nearer to the source than to the target, in [0, 1].

    Args:
        result: The edited picture.
        source, target: The renders before and after; all three of one size.
        changed: Booleans (height, width).

    Returns:
        NaN if nothing changes.
    """
    if not changed.any():
        return math.nan
    pixels, before, after = (as_floats(one)[changed] for one in (result, source, target))
    return float((_squared(pixels, before) < _squared(pixels, after)).mean())


def surroundings(changed: np.ndarray) -> np.ndarray:
    """The pixels within `AROUND` of the changed ones, without these: booleans (height, width)."""
    return _grown(changed, AROUND) & ~changed


def seam(result: ImageLike, source: ImageLike, target: ImageLike, mask: np.ndarray) -> float:
    """What a cut adds along a mask's outline, in levels of 255: edges that neither render has there.

    An edge is the largest difference between neighbouring pixels, over the channels. Within `EDGE` pixels of the
    outline, each edge of the result counts by how far it exceeds the strongest edge of either render within `NEAR`
    pixels. A cut that follows an object's own outline adds nothing; a ghost or a ragged cut does.

    Args:
        result, source, target: As for [`leftover`].
        mask: Booleans (height, width), where the edit applied.

    Returns:
        The mean over these pixels; NaN if the mask has no outline.
    """
    outline = _grown(mask, EDGE) & _grown(~mask, EDGE)
    if not outline.any():
        return math.nan
    allowed = np.maximum(*(_edges(one) for one in (source, target)))
    allowed = _dilated(allowed, NEAR)
    return float(255 * np.clip(_edges(result) - allowed, 0, None)[outline].mean())


def _squared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return ((first - second) ** 2).sum(axis=-1)


def _edges(image: ImageLike) -> np.ndarray:
    """The larger of each pixel's differences to its neighbours on the right and below, (height, width)."""
    pixels = as_floats(image)
    edges = np.zeros(pixels.shape[:2])
    edges[:, :-1] = np.abs(np.diff(pixels, axis=1)).max(axis=-1)
    edges[:-1] = np.maximum(edges[:-1], np.abs(np.diff(pixels, axis=0)).max(axis=-1))
    return edges


def _dilated(values: np.ndarray, pixels: int) -> np.ndarray:
    widened = F.max_pool2d(torch.from_numpy(values)[None, None], 2 * pixels + 1, stride=1, padding=pixels)
    return widened[0, 0].numpy()


def _grown(where: np.ndarray, pixels: int) -> np.ndarray:
    return grow_mask(torch.from_numpy(where)[None, None].float(), pixels)[0, 0].numpy() > 0
