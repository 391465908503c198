from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.control import AttentionPlan, controlled_attention
from semantic_edit.attention_processors.install import installed
from semantic_edit.attention_processors.layers import attention_layers

TOKENS = 5
FINE, COARSE = 8 * 12, 4 * 6  # the queries of the UNet's two resolutions for `_inputs`
MID = "mid_block.attentions.0.transformer_blocks.0"


def _inputs(
    unet: UNet2DConditionModel, batch: int = 2, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, 4, 8, 12, generator=generator)
    text = torch.randn(batch, TOKENS, unet.config.cross_attention_dim, generator=generator)
    return latents.to(dtype), 10, text.to(dtype)


@torch.no_grad()
def test_watching_does_not_change_the_prediction(unet):
    expected = unet(*_inputs(unet)).sample
    before = dict(unet.attn_processors)
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, FINE):
        actual = borrowed(*_inputs(unet)).sample
        assert unet.attn_processors == before
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@torch.no_grad()
def test_maps_are_distributions_over_tokens_averaged_over_evaluations(unet):
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, FINE) as once:
        borrowed(*_inputs(unet))
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, FINE) as twice:
        borrowed(*_inputs(unet))
        borrowed(*_inputs(unet))
    assert once.mean().shape == (2, FINE, TOKENS)
    assert set(twice.evaluations.values()) == {2}
    torch.testing.assert_close(once.mean().sum(dim=-1), torch.ones(2, FINE))
    torch.testing.assert_close(twice.mean(), once.mean())


@torch.no_grad()
@pytest.mark.parametrize("queries", [FINE, COARSE])
def test_maps_are_the_softmax_of_each_layers_own_queries_and_keys(unet, explicit_maps, queries):
    with explicit_maps(unet, queries) as expected:
        unet(*_inputs(unet))
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, queries) as maps:
        borrowed(*_inputs(unet))
    assert maps.totals.keys() == maps.evaluations.keys() == expected.keys()
    assert not any("forward" in vars(layer) for layer in unet.modules())
    for name, heads in expected.items():
        torch.testing.assert_close(maps.totals[name], heads.mean(dim=1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_rows_are_chosen(unet):
    means = []
    for rows in (None, slice(1, 3)):
        with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, FINE, rows) as maps:
            borrowed(*_inputs(unet, batch=3))
        means.append(maps.mean())
    torch.testing.assert_close(means[1], means[0][1:])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_single(make_unet, explicit_maps, dtype):
    single = make_unet()
    with explicit_maps(single, COARSE) as expected:
        single(*_inputs(single))
    unet = make_unet().to(dtype)
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, COARSE) as maps:
        borrowed(*_inputs(unet, dtype=dtype))
    assert maps.mean().dtype == torch.float32
    torch.testing.assert_close(maps.mean(), expected[f"{MID}.attn2"].mean(dim=1), rtol=0.05, atol=0.01)


def test_maps_carry_no_gradients(unet):
    latents, timestep, text = _inputs(unet)
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, COARSE) as maps:
        assert borrowed(latents, timestep, text.requires_grad_()).sample.requires_grad
    assert not maps.mean().requires_grad


@torch.no_grad()
def test_keys_that_a_mask_hides_get_nothing(unet):
    latents, timestep, text = _inputs(unet)
    mask = torch.ones(2, TOKENS)
    mask[1, 3:] = 0
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, FINE) as maps:
        borrowed(latents, timestep, text, encoder_attention_mask=mask)
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_cross_attention(borrowed, FINE, slice(1, 2)) as second_row,
    ):
        borrowed(latents, timestep, text, encoder_attention_mask=mask)
    assert maps.mean()[1, :, 3:].max() < 1e-12
    assert maps.mean()[0, :, 3:].min() > 1e-12
    torch.testing.assert_close(second_row.mean()[0], maps.mean()[1])


@torch.no_grad()
@pytest.mark.parametrize("capture_first", [True, False])
def test_capture_and_control_work_together_in_either_order(unet, capture_first):
    latents, timestep, text = _inputs(unet)
    plan = AttentionPlan(value_embeds=text.flip(1))
    with BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as control:
        control.plan = plan
        expected = borrowed(latents, timestep, text).sample
    with BorrowedNetwork(unet) as borrowed:
        contexts = [captured_cross_attention(borrowed, FINE), controlled_attention(borrowed)]
        first, second = contexts if capture_first else reversed(contexts)
        with first as one, second as other:
            maps, control = (one, other) if capture_first else (other, one)
            control.plan = plan
            actual = borrowed(latents, timestep, text).sample
    assert torch.equal(actual, expected)
    assert maps.mean().shape == (2, FINE, TOKENS)


class _NeedsItsOwnArgument:
    """A user's processor that needs a keyword argument of its own."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, *, strength):
        self.seen.append(strength)
        return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask)


@torch.no_grad()
def test_a_users_processor_keeps_working_and_keeps_its_arguments(unet):
    processor = _NeedsItsOwnArgument()
    with (
        BorrowedNetwork(unet) as borrowed,
        installed(borrowed, lambda layer, present: processor),
        captured_cross_attention(borrowed, COARSE) as maps,
    ):
        borrowed(*_inputs(unet), cross_attention_kwargs={"strength": 0.5})
    assert processor.seen == [0.5] * len(unet.attn_processors)
    assert len(maps.totals) == 1


@torch.no_grad()
def test_maps_below_an_ip_adapter_are_those_of_the_text(make_unet, monkeypatch):
    unet = make_unet()
    attn = unet.get_submodule(f"{MID}.attn2")
    attn.set_processor(IPAdapterAttnProcessor2_0(hidden_size=16, cross_attention_dim=32, num_tokens=(2,)))
    text, image = _inputs(unet)[2], torch.ones(2, 1, 2, 32)
    states = torch.randn(2, COARSE, 16, generator=torch.Generator().manual_seed(1))
    expected = attn(states, encoder_hidden_states=(text, [image]))
    # an evaluation of the layer alone
    monkeypatch.setattr(unet, "forward", lambda *args, **kwargs: attn(*args, **kwargs))
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, COARSE) as maps:
        actual = borrowed(states, encoder_hidden_states=(text, [image]))
    assert torch.equal(actual, expected)
    assert maps.mean().shape == (2, COARSE, TOKENS)


def test_a_resolution_that_no_layer_has_is_an_error(unet):
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_cross_attention(borrowed, queries=7) as maps,
        torch.no_grad(),
    ):
        borrowed(*_inputs(unet))
    with pytest.raises(ValueError, match="No attention map was captured"):
        maps.mean()


def test_nobody_watches_after_an_error(unet):
    def watched() -> set[str]:
        return {name for name, module in unet.named_modules() if "forward" in vars(module)}

    def broken() -> None:
        assert watched() == {layer.name for layer in attention_layers(unet) if layer.is_cross}
        raise RuntimeError("boom")

    with (
        pytest.raises(RuntimeError, match="boom"),
        BorrowedNetwork(unet) as borrowed,
        captured_cross_attention(borrowed, FINE),
    ):
        broken()
    assert not watched()
