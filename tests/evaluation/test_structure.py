from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from semantic_edit.evaluation.structure import patch_features, self_similarity, structure_distance


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))


def test_equal_pictures_are_at_distance_zero(features):
    assert_close(structure_distance(features, features), torch.zeros(2, dtype=torch.float64))


def test_a_known_distance():
    """Two tokens that point the same way, against two at right angles: two of four similarities go from 1 to 0."""
    alike, across = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.eye(2)
    assert structure_distance(alike, across).item() == pytest.approx(0.5)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert structure_distance(alike, opposite).item() == pytest.approx(2.0)


def test_it_sees_neither_rotations_of_the_features_nor_their_lengths(features):
    first, second = features
    rotation = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q
    lengths = torch.rand(9, 1) + 0.1
    expected = structure_distance(first, second)
    assert expected > 0.01
    assert_close(structure_distance(first.double() @ rotation, second * lengths), expected)


def test_it_is_symmetric_and_sees_where_things_are(features):
    first, second = features
    assert_close(structure_distance(first, second), structure_distance(second, first))
    assert structure_distance(first, first.flip(0)) > 0.01


def test_moving_both_pictures_alike_changes_nothing(features):
    first, second = features
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert_close(structure_distance(first[order], second[order]), structure_distance(first, second))


def test_self_similarity_is_one_with_oneself(features):
    assert_close(self_similarity(features).diagonal(dim1=1, dim2=2), torch.ones(2, 9, dtype=torch.float64))


def test_patch_features_leave_out_the_class_token(image_encoder, feature_extractor, pictures):
    found = patch_features(image_encoder, feature_extractor, pictures)
    assert found.shape == (len(pictures), 4, 24)
    assert structure_distance(found[0], found[1]) > 0
    assert_close(patch_features(image_encoder, feature_extractor, pictures[1:2])[0], found[1])
