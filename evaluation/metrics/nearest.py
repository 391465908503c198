"""Edit success, for edits with all possible outcomes rendered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from semantic_edit.evaluation.metrics.similarity import as_floats


def nearest_alternative(
    result: Image.Image, alternatives: Mapping[str, Image.Image], where: np.ndarray
) -> str:
    """The word whose render is nearest to the result, by squared error inside a region.

    Args:
        result: The edited picture.
        alternatives: Renders by word.
        where: The region, booleans (height, width).
    """
    pixels = as_floats(result)[where]
    errors = {word: ((as_floats(render)[where] - pixels) ** 2).sum() for word, render in alternatives.items()}
    return min(errors, key=errors.__getitem__)
