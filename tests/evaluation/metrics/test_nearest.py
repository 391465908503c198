from __future__ import annotations

import numpy as np
from PIL import Image

from semantic_edit.evaluation.metrics import nearest_alternative
from semantic_edit.still_life.cases import edit_cases


def test_the_nearest_alternative_is_judged_inside_the_region_alone():
    pictures = {word: Image.new("RGB", (4, 4), word) for word in ("red", "green", "blue")}
    result = np.zeros((4, 4, 3), dtype=np.uint8)
    result[:2] = (0, 100, 10)
    result[2:] = (255, 0, 0)
    top = np.zeros((4, 4), dtype=bool)
    top[:2] = True
    assert nearest_alternative(Image.fromarray(result), pictures, top) == "green"
    assert nearest_alternative(Image.fromarray(result), pictures, ~top) == "red"


def test_each_render_is_nearest_to_itself():
    (case,) = edit_cases(1, seed=3, kinds=("colour",))
    for word, render in case.alternatives.items():
        assert nearest_alternative(render, case.alternatives, case.changed_mask) == word
