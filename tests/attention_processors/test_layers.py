from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from semantic_edit.attention_processors.layers import attention_layers, nearest_queries


@pytest.fixture(scope="module")
def deep_unet(make_unet) -> UNet2DConditionModel:
    """A UNet with three resolutions, and cross attention at each."""
    return make_unet(
        block_out_channels=(4, 8, 8),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


@torch.no_grad()
def queries_by_layer(unet: UNet2DConditionModel, height: int, width: int) -> dict[str, int]:
    """How many positions each attention layer has when the UNet runs on a latent of that size."""
    seen: dict[str, int] = {}
    hooks = []
    for name, module in unet.named_modules():
        if isinstance(module, Attention):

            def note(module, args, name=name):
                seen[name] = args[0].shape[1]

            hooks.append(module.register_forward_pre_hook(note))
    unet(torch.zeros(1, 4, height, width), 10, torch.zeros(1, 3, unet.config.cross_attention_dim))
    for hook in hooks:
        hook.remove()
    return seen


def test_every_attention_layer_is_listed_with_what_it_attends_to(unet):
    layers = {f"{layer.name}.processor": layer for layer in attention_layers(unet)}
    assert layers.keys() == unet.attn_processors.keys()
    assert all(layer.is_cross == (".attn2." in name) for name, layer in layers.items())
    assert {layer.name.split(".")[0]: layer.halvings for layer in layers.values()} == {
        "down_blocks": 0,
        "mid_block": 1,
        "up_blocks": 0,
    }


def test_layers_that_attend_to_text_alone_are_cross_attention_by_any_name(make_unet):
    layers = attention_layers(make_unet(only_cross_attention=True))
    assert [layer.is_cross for layer in layers if layer.name.endswith("attn1")] == [True, True, True, False]


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (11, 6), (16, 10), (5, 31)])
def test_halvings_say_how_many_queries_a_layer_really_has(deep_unet, size):
    halvings = {layer.name: layer.halvings for layer in attention_layers(deep_unet)}
    for name, queries in queries_by_layer(deep_unet, *size).items():
        height, width = (-(-side // 2 ** halvings[name]) for side in size)
        assert queries == height * width


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (11, 6), (17, 10)])
@pytest.mark.parametrize("side", [1.0, 3.0, 6.0, 40.0])
def test_nearest_queries_are_those_of_a_real_layer(deep_unet, size, side):
    height, width = nearest_queries(deep_unet, *size, side)
    cross = {layer.name for layer in attention_layers(deep_unet) if layer.is_cross}
    actual = {queries for name, queries in queries_by_layer(deep_unet, *size).items() if name in cross}
    assert height * width in actual
    assert abs((height * width) ** 0.5 - side) == min(abs(queries**0.5 - side) for queries in actual)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 64), (16, 16)),  # Stable Diffusion at 512 pixels
        ((96, 96), (24, 24)),  # and at 768
        ((16, 16), (16, 16)),
        ((48, 64), (12, 16)),
        ((65, 97), (17, 25)),
        ((32, 32), (16, 16)),
        ((8, 8), (8, 8)),
    ],
)
def test_stylediffusions_default_resolution(deep_unet, size, expected):
    assert nearest_queries(deep_unet, *size) == expected


def test_of_two_resolutions_as_near_the_finer_is_taken(deep_unet):
    assert nearest_queries(deep_unet, 16, 16, side=12) == (16, 16)


def test_a_unet_without_cross_attention_has_no_such_resolution(make_unet):
    unet = make_unet(
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
    )
    with pytest.raises(ValueError, match=r"`unet` \(UNet2DConditionModel\) has no cross-attention layer"):
        nearest_queries(unet, 8, 8)
