from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from semantic_edit.attention_processors.capture import captured_cross_attention

TOKENS = 5


def _inputs(unet: UNet2DConditionModel, batch: int = 2) -> tuple[torch.Tensor, int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, 4, 8, 12, generator=generator)
    text = torch.randn(batch, TOKENS, unet.config.cross_attention_dim, generator=generator)
    return latents, 10, text


def _finest_queries(unet: UNet2DConditionModel) -> int:
    """How many positions the finest cross attention has for the inputs above."""
    seen: list[int] = []
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    hooks = [
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
        for layer in layers
    ]
    with torch.no_grad():
        unet(*_inputs(unet))
    for hook in hooks:
        hook.remove()
    return max(seen)


@torch.no_grad()
def test_watching_does_not_change_the_prediction(unet: UNet2DConditionModel):
    expected = unet(*_inputs(unet)).sample
    with captured_cross_attention(unet, _finest_queries(unet)):
        actual = unet(*_inputs(unet)).sample
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@torch.no_grad()
def test_maps_are_distributions_over_tokens_averaged_over_evaluations(unet: UNet2DConditionModel):
    queries = _finest_queries(unet)
    with captured_cross_attention(unet, queries) as once:
        unet(*_inputs(unet))
    with captured_cross_attention(unet, queries) as twice:
        unet(*_inputs(unet))
        unet(*_inputs(unet))
    assert once.mean().shape == (2, queries, TOKENS)
    torch.testing.assert_close(once.mean().sum(dim=-1), torch.ones(2, queries))
    torch.testing.assert_close(twice.mean(), once.mean())


@torch.no_grad()
def test_a_map_is_the_softmax_of_the_layers_own_queries_and_keys(unet: UNet2DConditionModel):
    queries, texts = _finest_queries(unet), _inputs(unet)[2]
    name, layer = next(
        (n, m) for n, m in unet.named_modules() if n.endswith("attn2") and isinstance(m, Attention)
    )
    hidden: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, args: hidden.append(args[0]))
    with captured_cross_attention(unet, queries) as maps:
        unet(*_inputs(unet))
    hook.remove()
    query = layer.to_q(hidden[0]).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    key = layer.to_k(texts).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    expected = (query @ key.transpose(-1, -2) * layer.scale).softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(maps.totals[f"{name}.processor"], expected, rtol=1e-5, atol=1e-6)


def test_a_resolution_that_no_layer_has_is_an_error(unet: UNet2DConditionModel):
    with captured_cross_attention(unet, queries=7) as maps, torch.no_grad():
        unet(*_inputs(unet))
    with pytest.raises(ValueError, match="No cross-attention map of 7 queries"):
        maps.mean()
