from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, IPAdapterAttnProcessor2_0

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import captured_attention, captured_cross_attention
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
def _explicit_maps(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """Every layer's map, (batch, heads, queries, keys), from what hooks see of its inputs."""
    maps: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def see(layer, args, kwargs, output):
            text = kwargs.get("encoder_hidden_states")
            keys_from = args[0] if text is None else text
            query, key = (
                part.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                for part in (layer.to_q(args[0]), layer.to_k(keys_from))
            )
            maps[name] = (query @ key.mT * layer.scale).softmax(dim=-1)

        return see

    hooks = [
        module.register_forward_hook(keep(name), with_kwargs=True)
        for name, module in unet.named_modules()
        if isinstance(module, Attention)
    ]
    unet(*_inputs(unet))
    for hook in hooks:
        hook.remove()
    return maps


@torch.no_grad()
def test_watching_does_not_change_the_prediction(unet):
    expected = unet(*_inputs(unet)).sample
    before = dict(unet.attn_processors)
    with BorrowedNetwork(unet) as borrowed, captured_attention(borrowed, lambda layer: True):
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
def test_maps_are_the_softmax_of_each_layers_own_queries_and_keys(unet):
    expected = _explicit_maps(unet)
    with BorrowedNetwork(unet) as borrowed, captured_attention(borrowed, lambda layer: True) as means:
        borrowed(*_inputs(unet))
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, lambda layer: True, keep_heads=True) as heads,
    ):
        borrowed(*_inputs(unet))
        borrowed(*_inputs(unet))  # the latest evaluation alone
    assert means.totals.keys() == heads.totals.keys() == expected.keys()
    for name, maps in expected.items():
        torch.testing.assert_close(heads.totals[name], maps, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(means.totals[name], maps.mean(dim=1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_rows_and_columns_are_chosen(unet):
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, [f"{MID}.attn2", f"{MID}.attn1"], keep_heads=True) as everything,
    ):
        borrowed(*_inputs(unet, batch=3))
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(
            borrowed, [f"{MID}.attn2", f"{MID}.attn1"], rows=(2, 0), tokens=(3, 1), keep_heads=True
        ) as chosen,
    ):
        borrowed(*_inputs(unet, batch=3))
    for name, maps in everything.totals.items():
        assert chosen.totals[name].shape == (2, 4, COARSE, 2)
        torch.testing.assert_close(chosen.totals[name], maps[[2, 0]][..., [3, 1]])


@torch.no_grad()
@pytest.mark.parametrize(
    ("choice", "queries", "expected"),
    [
        ([f"{MID}.attn1"], None, {f"{MID}.attn1"}),
        ({f"{MID}.attn1", f"{MID}.attn2"}, FINE, set()),
        (lambda layer: layer.is_cross, COARSE, {f"{MID}.attn2"}),
        (lambda layer: layer.name.startswith("mid_block"), None, {f"{MID}.attn1", f"{MID}.attn2"}),
    ],
)
def test_nothing_is_kept_that_was_not_asked_for(unet, choice, queries, expected):
    with BorrowedNetwork(unet) as borrowed, captured_attention(borrowed, choice, queries) as maps:
        borrowed(*_inputs(unet))
    assert maps.totals.keys() == maps.evaluations.keys() == expected
    assert not any("forward" in vars(layer) for layer in unet.modules())


@torch.no_grad()
def test_clear_starts_anew(unet):
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, COARSE) as maps:
        borrowed(*_inputs(unet))
        first = maps.mean()
        maps.clear()
        assert not maps.totals
        borrowed(*_inputs(unet))
    assert set(maps.evaluations.values()) == {1}
    torch.testing.assert_close(maps.mean(), first)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_single(make_unet, dtype):
    expected = _explicit_maps(make_unet())[f"{MID}.attn2"].mean(dim=1)
    unet = make_unet().to(dtype)
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, COARSE) as maps:
        borrowed(*_inputs(unet, dtype=dtype))
    assert maps.mean().dtype == torch.float32
    torch.testing.assert_close(maps.mean(), expected, rtol=0.05, atol=0.01)


@torch.no_grad()
def test_maps_are_kept_where_they_are_wanted(unet):
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, [f"{MID}.attn2"], device="meta") as maps,
    ):
        borrowed(*_inputs(unet))
        borrowed(*_inputs(unet))
    assert {total.device.type for total in maps.totals.values()} == {"meta"}


def test_maps_carry_gradients_only_if_asked_to(unet):
    latents, timestep, text = _inputs(unet)
    text.requires_grad_()
    with BorrowedNetwork(unet) as borrowed, captured_cross_attention(borrowed, COARSE) as plain:
        borrowed(latents, timestep, text)
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, lambda layer: layer.is_cross, COARSE, differentiable=True) as maps,
    ):
        borrowed(latents, timestep, text)
    assert not plain.mean().requires_grad
    (gradient,) = torch.autograd.grad(maps.mean()[..., 0].square().sum(), text)
    assert gradient.abs().max() > 0
    with (
        torch.no_grad(),
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, [f"{MID}.attn2"], differentiable=True) as without,
    ):
        borrowed(latents, timestep, text)
    assert not without.mean().requires_grad


def test_gradients_of_maps_are_right(make_unet):
    unet = make_unet(block_out_channels=(4, 8), attention_head_dim=2).double().requires_grad_(False)
    latents, timestep, text = _inputs(unet, batch=1, dtype=torch.float64)

    def maps_of(value_embeds: torch.Tensor) -> torch.Tensor:
        with (
            BorrowedNetwork(unet) as borrowed,
            controlled_attention(borrowed) as control,
            captured_attention(borrowed, [f"{MID}.attn2"], differentiable=True) as maps,
        ):
            control.plan = AttentionPlan(value_embeds=value_embeds)
            borrowed(latents, timestep, text)
        return maps.mean()

    assert torch.autograd.gradcheck(maps_of, text.clone().requires_grad_(), fast_mode=True)


def test_gradients_of_maps_survive_checkpointing(make_unet):
    gradients = []
    for checkpointing in (False, True):
        unet = make_unet().requires_grad_(False)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        latents, timestep, text = _inputs(unet)
        text.requires_grad_()
        with (
            BorrowedNetwork(unet) as borrowed,
            captured_attention(borrowed, lambda layer: layer.is_cross, FINE, differentiable=True) as maps,
        ):
            sample = borrowed(latents, timestep, text).sample
            loss = sample.square().sum() + maps.mean().square().sum()
            gradients.append(torch.autograd.grad(loss, text)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


@torch.no_grad()
def test_keys_that_a_mask_hides_get_nothing(unet):
    latents, timestep, text = _inputs(unet)
    mask = torch.ones(2, TOKENS)
    mask[1, 3:] = 0
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, lambda layer: layer.is_cross, FINE) as maps,
    ):
        borrowed(latents, timestep, text, encoder_attention_mask=mask)
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, lambda layer: layer.is_cross, FINE, rows=[1]) as second_row,
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
    """A user's processor that is lost without a keyword argument of its own."""

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
    with BorrowedNetwork(unet) as borrowed, captured_attention(borrowed, [f"{MID}.attn2"]) as maps:
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


@torch.no_grad()
def test_maps_of_different_resolutions_have_no_mean(unet):
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, lambda layer: layer.is_cross) as maps,
    ):
        borrowed(*_inputs(unet))
    with pytest.raises(ValueError, match=rf"shapes \[\(2, {COARSE}, 5\), \(2, {FINE}, 5\)\] have no mean"):
        maps.mean()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (["mid_block.attn9"], r"No attention layer is called 'mid_block\.attn9'\. .* such as 'down_blocks"),
        ([], r"None of the \d+ attention layers is chosen"),
        (lambda layer: False, r"None of the \d+ attention layers is chosen"),
    ],
)
def test_a_choice_of_no_layer_is_an_error(unet, choice, message):
    with (
        pytest.raises(ValueError, match=message),
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, choice),
    ):
        pass


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": [0, 2]}, r"`rows` to capture are \[0, 2\] and this evaluation has 2"),
        ({"tokens": [-1]}, r"`tokens` to capture are \[-1\] and this evaluation has 5"),
    ],
)
def test_rows_and_columns_that_are_not_there_are_an_error(unet, options, message):
    with (
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, [f"{MID}.attn2"], **options),
        pytest.raises(ValueError, match=message),
    ):
        borrowed(*_inputs(unet))
    assert not any("forward" in vars(layer) for layer in unet.modules())


def test_nobody_watches_after_an_error(unet):
    def watched() -> list[bool]:
        return ["forward" in vars(unet.get_submodule(layer.name)) for layer in attention_layers(unet)]

    def broken() -> None:
        assert all(watched())
        raise RuntimeError("boom")

    with (
        pytest.raises(RuntimeError, match="boom"),
        BorrowedNetwork(unet) as borrowed,
        captured_attention(borrowed, lambda layer: True),
    ):
        broken()
    assert not any(watched())
