from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.evaluation.metrics.features import feature_distance, vae_layers, vision_layers
from semantic_edit.evaluation.metrics.similarity import as_planes
from semantic_edit.still_life.cases import edit_cases


def test_a_known_distance():
    """Unit vectors that are equal, at right angles or opposite are at 0, 2 and 4, whatever the features' lengths."""
    first = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    second = torch.tensor([[5.0, 0.0], [0.0, 4.0], [-1.0, 0.0]])
    assert feature_distance([first], [second]) == pytest.approx(2.0)


def test_layers_count_alike_however_many_places_they_have():
    near, far = torch.ones(100, 3), torch.ones(1, 3)
    assert feature_distance([near, far], [near, -far]) == pytest.approx(2.0)


def test_features_of_nothing_are_alike():
    assert feature_distance([torch.zeros(4, 3)], [torch.zeros(4, 3)]) == 0.0


def test_layers_of_other_shapes_are_refused():
    for other in ([torch.ones(1, 2)] * 2, [torch.ones(3, 2)]):
        with pytest.raises(
            ValueError, match=r"one shape a layer, got \[\(1, 2\)\] and .*pictures of one size"
        ):
            feature_distance([torch.ones(1, 2)], other)


def test_vision_layers_are_the_patches_after_each_layer(image_encoder, feature_extractor, pictures):
    layers = vision_layers(image_encoder, feature_extractor, pictures[0])
    assert [layer.shape for layer in layers] == [(4, 24)] * 2
    pixels = feature_extractor(images=pictures[0], return_tensors="pt").pixel_values
    torch.testing.assert_close(layers[-1], image_encoder(pixels).last_hidden_state[0, 1:].detach())


def test_vae_layers_are_the_places_after_each_block(make_sd_pipe, pictures):
    pipe = make_sd_pipe()
    picture = pictures[0].resize((32, 16))
    layers = vae_layers(pipe, picture)
    assert [layer.shape for layer in layers] == [(8 * 16, 4), (4 * 8, 8), (2 * 4, 8), (2 * 4, 8)]
    assert not pipe.vae.encoder.down_blocks[0]._forward_hooks
    seen = as_planes(picture) / 127.5 - 1
    seen = pipe.vae.encoder.conv_in(seen)
    for block, layer in zip(pipe.vae.encoder.down_blocks, layers, strict=True):
        seen = block(seen)
        torch.testing.assert_close(layer, seen[0].flatten(1).T.detach(), rtol=0, atol=1e-5)


def test_a_vae_that_needs_float32_is_measured_in_it(make_xl_edit_pipe, vae, pictures):
    """As in an edit, because SDXL's VAE overflows in half precision."""
    half = copy.deepcopy(vae).half()
    half.register_to_config(force_upcast=True)
    layers = vae_layers(make_xl_edit_pipe(vae=half), pictures[0])
    assert {layer.dtype for layer in layers} == {torch.float32}
    assert half.dtype == torch.float16


@pytest.mark.parametrize("network", ["vision", "vae"])
def test_what_looks_alike_is_nearer_than_another_thing(still_life_parts, network):
    """A slightly darker render of a scene is nearer than one with another object."""

    def layers(picture: Image.Image) -> list[torch.Tensor]:
        if network == "vae":
            return vae_layers(still_life_parts, picture)
        return vision_layers(still_life_parts.image_encoder, still_life_parts.feature_extractor, picture)

    (case,) = edit_cases(1, seed=2, kinds=("object",), objects=1)
    darker = Image.fromarray((np.asarray(case.image) * 0.97).astype(np.uint8))
    before = layers(case.image)
    assert feature_distance(before, before) == 0.0
    assert 0 < feature_distance(before, layers(darker)) < feature_distance(before, layers(case.target_image))
