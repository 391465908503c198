from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from semantic_edit.attention_processors.install import installed


def test_every_layer_gets_what_was_chosen_and_its_own_comes_back(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)
    seen: dict[str, Any] = {}

    def make(name: str, present: Any) -> AttnProcessor:
        seen[name] = present
        return AttnProcessor()

    with installed(unet, make):
        assert all(type(processor) is AttnProcessor for processor in unet.attn_processors.values())
    assert seen == before
    assert unet.attn_processors == before


def test_processors_come_back_after_an_error(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)

    def broken() -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"), installed(unet, lambda name, present: AttnProcessor()):
        broken()
    assert unet.attn_processors == before


def test_a_failing_choice_changes_nothing(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)

    def make(name: str, present: Any) -> AttnProcessor:
        if "up_blocks" in name:
            raise LookupError(name)
        return AttnProcessor()

    with pytest.raises(LookupError), installed(unet, make):
        pass
    assert unet.attn_processors == before


def test_installations_nest(unet: UNet2DConditionModel):
    before = dict(unet.attn_processors)
    with installed(unet, lambda name, present: AttnProcessor()):
        outer = dict(unet.attn_processors)
        with installed(unet, lambda name, present: AttnProcessor()):
            assert unet.attn_processors != outer
        assert unet.attn_processors == outer
    assert unet.attn_processors == before


@torch.no_grad()
def test_keeping_every_processor_changes_nothing(unet: UNet2DConditionModel):
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, unet.config.cross_attention_dim)
    expected = unet(latents, 10, text).sample
    with installed(unet, lambda name, present: present):
        actual = unet(latents, 10, text).sample
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
