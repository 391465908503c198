from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.evaluation.metrics import class_mean_distance, csfid

MEANS = {"cat": torch.tensor([0.0, 0.0]), "dog": torch.tensor([1.0, 1.0]), "cow": torch.tensor([9.0, 9.0])}


def test_each_class_is_compared_with_its_own():
    features = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    assert class_mean_distance(features, ["dog", "dog", "dog"], MEANS) == pytest.approx(0.0)
    assert class_mean_distance(features, ["cat", "cat", "cat"], MEANS) == pytest.approx(2.0)


def test_classes_count_alike_however_many_pictures_they_have():
    features = torch.tensor([[3.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert class_mean_distance(features, ["cat", "dog", "dog", "dog"], MEANS) == pytest.approx(
        (9.0 + 0.0) / 2
    )


def test_the_spread_within_a_class_has_no_say():
    narrow, wide = torch.tensor([[0.9, 1.0], [1.1, 1.0]]), torch.tensor([[-4.0, 1.0], [6.0, 1.0]])
    for features in (narrow, wide):
        assert class_mean_distance(features, ["dog", "dog"], MEANS) == pytest.approx(0.0)


def test_a_class_without_references_is_named():
    with pytest.raises(ValueError, match="no reference pictures of hen, owl: add some"):
        class_mean_distance(torch.ones(3, 2), ["owl", "cat", "hen"], MEANS)
    picture = Image.new("RGB", (2, 2))
    with pytest.raises(ValueError, match="no reference pictures of hen"):
        csfid([picture], ["hen"], {"hen": []}, mean_colours)


def test_pictures_and_classes_must_be_as_many():
    with pytest.raises(ValueError, match="Each picture needs one class, and there must be some: got 3 and 1"):
        class_mean_distance(torch.ones(3, 2), ["cat"], MEANS)
    with pytest.raises(ValueError, match="there must be some"):
        csfid([], [], {}, mean_colours)


def mean_colours(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Stands in for Inception."""
    means = [torch.from_numpy(np.asarray(one) / 255.0).mean((0, 1)) for one in pictures]
    return torch.stack(means) if means else torch.empty(0, 3)


def test_csfid_of_pictures():
    def greys(*levels: int) -> list[Image.Image]:
        return [Image.new("RGB", (4, 4), (level,) * 3) for level in levels]

    references = {"dark": greys(0, 102), "light": greys(255), "unused": greys(7)}
    found = csfid(greys(51, 51, 204), ["dark", "dark", "light"], references, mean_colours)
    assert found == pytest.approx((0.0 + 3 * 0.2**2) / 2)
