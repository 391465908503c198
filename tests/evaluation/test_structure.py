from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import ViTConfig, ViTModel

from semantic_edit.evaluation.metrics.structure import (
    cached_dino,
    dino_keys,
    patch_features,
    self_similarity,
    structure_distance,
)
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))


def test_equal_pictures_are_at_distance_zero(features):
    assert_close(structure_distance(features, features), torch.zeros(2, dtype=torch.float64))


def test_a_known_distance():
    """Two parallel tokens against two orthogonal ones: two of four similarities change from 1 to 0."""
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


def test_features_of_other_shapes_are_refused(features):
    with pytest.raises(ValueError, match=r"one shape, got \(9, 16\) and \(4, 16\): take both"):
        structure_distance(features[0], features[1, :4])


def test_self_similarity_is_one_with_oneself(features):
    assert_close(self_similarity(features).diagonal(dim1=1, dim2=2), torch.ones(2, 9, dtype=torch.float64))


def test_patch_features_leave_out_the_class_token(image_encoder, feature_extractor, pictures):
    found = patch_features(image_encoder, feature_extractor, pictures)
    assert found.shape == (len(pictures), 4, 24)
    assert structure_distance(found[0], found[1]) > 0
    assert_close(patch_features(image_encoder, feature_extractor, pictures[1:2])[0], found[1])


@pytest.fixture(scope="module")
def vit() -> ViTModel:
    """A network with DINO's layout, with one layer, for images of 224 pixels."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, patch_size=56
    )
    return ViTModel(config, add_pooling_layer=False).eval()


def test_dino_keys_are_the_last_layers(vit):
    """Computed by hand for a grey image of the network's own size."""
    grey = Image.new("RGB", (224, 224), (124, 116, 104))
    keys = dino_keys(vit, grey)
    assert keys.shape == (1 + 4 * 4, 8)
    pixels = (torch.tensor([124, 116, 104]) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    stream = vit(pixels[:, None, None].expand(1, 3, 224, 224), output_hidden_states=True).hidden_states[1]
    last = {name.partition("1.")[2]: part for name, part in vit.named_modules() if ".1." in f".{name}"}
    (to_keys,) = [part for name, part in last.items() if name.endswith(("k_proj", ".key"))]
    normed = last["layernorm_before"](stream)
    assert_close(keys, to_keys(normed)[0].detach())


def test_dino_sees_the_whole_picture_at_one_scale(vit):
    """The shorter side has 224 pixels or four patches, the longer one at most 480, eight patches and a rest."""
    assert len(dino_keys(vit, Image.new("RGB", (112, 168)))) == 1 + 4 * 6
    assert len(dino_keys(vit, Image.new("RGB", (1000, 400)))) == 1 + 3 * 8


def test_dino_structure_sees_where_things_are(vit):
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((224, 224), Image.Resampling.NEAREST)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    keys = dino_keys(vit, picture)
    assert structure_distance(keys, keys) == pytest.approx(0.0)
    assert structure_distance(keys, dino_keys(vit, turned)) > 1e-6


def test_dino_is_taken_from_a_folder_and_never_downloaded(vit, tmp_path):
    vit.save_pretrained(tmp_path / "dino")
    picture = Image.new("RGB", (224, 224), "teal")
    assert_close(cached_dino(name=str(tmp_path / "dino"))(picture), dino_keys(vit, picture))
    with pytest.raises(MetricUnavailable, match="Fetch them once with: hf download nobody/has-this"):
        cached_dino(name="nobody/has-this")
