from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor2_0

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.install import installed


def test_every_layer_gets_what_was_chosen_and_its_own_comes_back(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)
    seen: dict[str, Any] = {}

    def make(name: str, present: Any) -> AttnProcessor:
        seen[name] = present
        return AttnProcessor()

    with BorrowedNetwork(unet) as borrowed, installed(borrowed, make):
        assert all(type(processor) is AttnProcessor for processor in unet.attn_processors.values())
    assert seen == before
    assert unet.attn_processors == before


def test_processors_come_back_after_an_error(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)

    def broken() -> None:
        raise RuntimeError("boom")

    with (
        pytest.raises(RuntimeError, match="boom"),
        BorrowedNetwork(unet) as borrowed,
        installed(borrowed, lambda name, present: AttnProcessor()),
    ):
        broken()
    assert unet.attn_processors == before


def test_a_failing_choice_changes_nothing(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)

    def make(name: str, present: Any) -> AttnProcessor:
        if "up_blocks" in name:
            raise LookupError(name)
        return AttnProcessor()

    with pytest.raises(LookupError), BorrowedNetwork(unet) as borrowed, installed(borrowed, make):
        pass
    assert unet.attn_processors == before


def test_installations_nest(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)
    with BorrowedNetwork(unet) as borrowed, installed(borrowed, lambda name, present: AttnProcessor()):
        outer = dict(unet.attn_processors)
        with installed(borrowed, lambda name, present: AttnProcessor()):
            assert unet.attn_processors != outer
        assert unet.attn_processors == outer
    assert unet.attn_processors == before


@torch.no_grad()
def test_keeping_every_processor_changes_nothing(unet: UNet2DConditionModel):
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, unet.config.cross_attention_dim)
    expected = unet(latents, 10, text).sample
    with BorrowedNetwork(unet) as borrowed, installed(borrowed, lambda name, present: present):
        actual = borrowed(latents, 10, text).sample
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_installations_come_one_after_another(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)
    for _ in range(2):
        with BorrowedNetwork(unet) as borrowed, installed(borrowed, lambda name, present: AttnProcessor()):
            assert unet.attn_processors != before
        assert unet.attn_processors == before


def test_an_inner_error_leaves_the_outer_installation(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)

    def broken() -> None:
        raise RuntimeError("boom")

    with BorrowedNetwork(unet) as borrowed, installed(borrowed, lambda name, present: AttnProcessor()):
        outer = dict(unet.attn_processors)
        with (
            pytest.raises(RuntimeError, match="boom"),
            installed(borrowed, lambda name, present: AttnProcessor()),
        ):
            broken()
        assert unet.attn_processors == outer
    assert unet.attn_processors == before


def test_processors_with_weights_of_their_own_come_back_as_modules(
    make_unet: Callable[..., UNet2DConditionModel],
):
    unet = make_unet()
    adapter = IPAdapterAttnProcessor2_0(hidden_size=16, cross_attention_dim=32, num_tokens=(2,))
    attn = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    attn.set_processor(adapter)
    names = [name for name, _ in unet.named_parameters()]
    with BorrowedNetwork(unet) as borrowed, installed(borrowed, lambda name, present: AttnProcessor()):
        assert type(attn.processor) is AttnProcessor
        assert [
            name for name, _ in unet.named_parameters()
        ] == names  # whoever saves the UNet now loses nothing
    assert attn.processor is adapter
    assert [name for name, _ in unet.named_parameters()] == names
    plain = make_unet()
    before = dict(plain.attn_processors)
    with BorrowedNetwork(plain) as borrowed, installed(borrowed, lambda name, present: torch.nn.Identity()):
        pass
    assert plain.attn_processors == before


def test_threads_with_unets_of_their_own_do_not_meet(make_unet: Callable[..., UNet2DConditionModel]):
    unets = [make_unet(seed=seed) for seed in range(2)]
    before = [dict(unet.attn_processors) for unet in unets]
    both_inside = threading.Barrier(2, timeout=20)

    def use(unet: UNet2DConditionModel) -> bool:
        mine = AttnProcessor()
        with BorrowedNetwork(unet) as borrowed, installed(borrowed, lambda name, present: mine):
            both_inside.wait()
            kept = all(processor is mine for processor in unet.attn_processors.values())
            both_inside.wait()
        return kept

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(use, unets)) == [True, True]
    assert [dict(unet.attn_processors) for unet in unets] == before
