import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.editing.summaries import Summarised, summary


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (torch.zeros(2, 3, dtype=torch.float16), "Tensor (2, 3) float16"),
        (np.zeros((4, 5), np.uint8), "ndarray (4, 5) uint8"),
        (Image.new("RGB", (64, 48)), "RGB picture 64x48"),
        ([1, 2, 3, 4], "[1, 2, 3, … 4 in all]"),
        ((True, None), "(True, None)"),
        ({"word": torch.zeros(1)}, "{'word': Tensor (1,) float32}"),
        ("x" * 1000, "'" + "x" * 76 + "..."),
    ],
)
def test_a_value_is_told_by_its_shape(value, told):
    assert summary(value) == told


def test_what_holds_such_values_is_told_field_by_field():
    @dataclasses.dataclass(repr=False)
    class Held(Summarised):
        mask: torch.Tensor
        inner: object = None

    value = Held(torch.zeros(1, 1, 64, 64), Held(torch.zeros(2)))
    assert repr(value) == (
        "Held(mask=Tensor (1, 1, 64, 64) float32, inner=Held(mask=Tensor (2,) float32, inner=None))"
    )
