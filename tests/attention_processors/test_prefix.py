from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.control import AttentionPlan, controlled_attention
from semantic_edit.attention_processors.prefix import remembered_prefix

BEFORE = ("conv_in", "time_embedding", "down_blocks.0.resnets.0")  # of the first cross attention
BEHIND = ("down_blocks.0.attentions.0.proj_out", "mid_block.resnets.0", "conv_out")


class Counted:
    """Counts the calls of some modules of a UNet, by replacing their `forward` as accelerate does."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.calls: dict[str, int] = {}
        self.own: dict[str, Callable[..., Any]] = {}
        for name in (*BEFORE, *BEHIND):
            self._watch(name, unet.get_submodule(name))

    def _watch(self, name: str, module: torch.nn.Module) -> None:
        forward = module.forward

        def counting(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            return forward(*args, **kwargs)

        module.forward = self.own[name] = counting  # type: ignore[method-assign]

    def since(self) -> dict[str, int]:
        calls, self.calls = self.calls, {}
        return calls


@pytest.fixture
def unet(make_unet: Callable[..., UNet2DConditionModel]) -> UNet2DConditionModel:
    """Not the shared one, because the tests watch and freeze it."""
    return make_unet()


@pytest.fixture
def run(unet: UNet2DConditionModel) -> Callable[..., torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    text = torch.randn(1, 5, unet.config.cross_attention_dim, generator=generator)

    def evaluate(
        values: torch.Tensor | None = None,
        latents: torch.Tensor = latents,
        borrowed: BorrowedNetwork | None = None,
    ) -> torch.Tensor:
        borrowed = borrowed or BorrowedNetwork(unet)
        with controlled_attention(borrowed) as control:
            control.plan = AttentionPlan(None if values is None else values.expand_as(text))
            return borrowed(latents, 7, text, return_dict=False)[0]

    evaluate.latents = latents  # type: ignore[attr-defined]
    return evaluate


def test_for_other_values_only_what_they_reach_is_computed_again(unet, run):
    counted = Counted(unet)
    values = [torch.tensor(number, requires_grad=True) for number in (0.5, -1.0)]
    expected = [run(value) for value in values]
    slopes = [torch.autograd.grad(one.sum(), value) for one, value in zip(expected, values, strict=True)]
    counted.since()
    unet.requires_grad_(False)
    with BorrowedNetwork(unet) as borrowed, remembered_prefix(borrowed) as prefix:
        for index, value in enumerate(values):
            prefix.begin(run.latents)
            given = run(value, borrowed=borrowed)
            assert torch.equal(given, expected[index])
            torch.testing.assert_close(torch.autograd.grad(given.sum(), value), slopes[index])
            assert counted.since() == dict.fromkeys((*BEFORE, *BEHIND) if index == 0 else BEHIND, 1)


def test_other_inputs_are_computed_anew_and_so_is_what_was_not_begun(unet, run):
    counted = Counted(unet)
    more = run.latents + 1
    expected = [run(latents=latents) for latents in (run.latents, more, torch.cat([more, more])[:1])]
    counted.since()
    everything = dict.fromkeys((*BEFORE, *BEHIND), 1)
    with BorrowedNetwork(unet) as borrowed, remembered_prefix(borrowed) as prefix, torch.no_grad():
        for latents, wanted in zip((run.latents, more), expected, strict=False):
            prefix.begin(latents)
            assert torch.equal(run(latents=latents, borrowed=borrowed), wanted)
            assert counted.since() == everything
        assert torch.equal(run(borrowed=borrowed), expected[0])  # not begun: between two evaluations that are
        assert counted.since() == everything
        prefix.begin(more.clone())
        assert torch.equal(run(latents=more, borrowed=borrowed), expected[1])
        assert counted.since() == dict.fromkeys(BEHIND, 1)
        prefix.begin(more, torch.tensor(1))
        assert torch.equal(run(latents=more, borrowed=borrowed), expected[1])
        assert counted.since() == everything


def test_an_interrupted_evaluation_goes_on_from_what_it_had(unet, run):
    counted = Counted(unet)
    expected = run()
    resnet = unet.down_blocks[0].resnets[0]
    handle = resnet.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("boom")))
    with BorrowedNetwork(unet) as borrowed, remembered_prefix(borrowed) as prefix:
        prefix.begin(run.latents)
        with pytest.raises(RuntimeError, match="boom"):
            run(borrowed=borrowed)
        handle.remove()
        counted.since()
        prefix.begin(run.latents)
        assert torch.equal(run(borrowed=borrowed), expected)
        assert counted.since() == dict.fromkeys((BEFORE[-1], *BEHIND), 1)


def test_every_module_gets_its_own_forward_back(unet, run):
    counted = Counted(unet)

    def broken() -> None:
        with BorrowedNetwork(unet) as borrowed, remembered_prefix(borrowed) as prefix:
            prefix.begin(run.latents)
            run(borrowed=borrowed)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        broken()
    for name, module in unet.named_modules():
        assert vars(module).get("forward") is counted.own.get(name)
        assert not module._forward_pre_hooks
    counted.since()
    run()
    assert counted.since() == dict.fromkeys((*BEFORE, *BEHIND), 1)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        },
        {"only_cross_attention": True},
        {"layers_per_block": 2, "transformer_layers_per_block": 2},
        {"encoder_hid_dim": 32, "encoder_hid_dim_type": "text_proj"},
    ],
    ids=["attention behind the first block", "self attention reads text", "deeper", "projected text"],
)
def test_any_unet_keeps_its_bits(make_unet, changes):
    unet = make_unet(**changes)
    text, latents = torch.randn(2, 5, 32), torch.randn(2, 4, 8, 8)
    unet.requires_grad_(False)
    with (
        BorrowedNetwork(unet) as borrowed,
        controlled_attention(borrowed) as control,
        remembered_prefix(borrowed) as prefix,
    ):
        for number in (0.5, 2.0):
            control.plan = AttentionPlan(torch.full_like(text, number))
            expected = borrowed(latents, 7, text, return_dict=False)[0]
            prefix.begin(latents)
            assert torch.equal(borrowed(latents, 7, text, return_dict=False)[0], expected)
