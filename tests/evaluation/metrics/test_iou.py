from __future__ import annotations

import numpy as np
import pytest

from semantic_edit.evaluation.metrics import iou


def test_iou_counts_pixels():
    first, second = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    first[:2], second[1:3] = True, True
    assert iou(first, second) == pytest.approx(4 / 12)
    assert iou(first, ~first) == 0.0
    assert iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1.0
