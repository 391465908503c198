from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from benchmarks.attention_swaps import drawn, layer_call, measured
from benchmarks.explicit_attention import explicitly_controlled
from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.control import AttentionPlan, controlled_attention
from semantic_edit.attention_processors.swaps import CrossSwap, SelfSwap

CPU = torch.device("cpu")


@torch.no_grad()
def test_the_explicit_contender_computes_what_the_fused_one_does(unet, text_encoder):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 4, 8, 6, generator=generator)
    embeds, values = (torch.randn(4, 16, 32, generator=generator) for _ in range(2))
    matrix = torch.rand(1, 16, 16, generator=generator)
    plan = AttentionPlan(
        value_embeds=values,
        cross_swaps=(CrossSwap(2, (3,), matrix, torch.rand(1, 16, generator=generator)),),
        self_swaps=(SelfSwap(2, (3,)), SelfSwap(0, (1,))),
        self_queries=12,
    )
    outputs = []
    for controlled in (controlled_attention, explicitly_controlled):
        before = dict(unet.attn_processors)
        with BorrowedNetwork(unet) as borrowed, controlled(borrowed) as control:
            control.plan = plan
            outputs.append(borrowed(latents, 10, embeds).sample)
        assert unet.attn_processors == before
    assert_close(*outputs, rtol=1e-4, atol=1e-5)
    assert (outputs[0] - unet(latents, 10, embeds).sample).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_a_call_is_measured_once_both_agree(kind):
    found = measured(layer_call(kind, 4, CPU), repeats=2, device=CPU)
    assert len(found.fused) == len(found.explicit or []) == 2
    assert found.line.startswith(f"| {kind} | 4 |")


def test_maps_that_do_not_fit_are_not_made(monkeypatch):
    monkeypatch.setattr("benchmarks.attention_swaps.free_bytes", lambda device: 0)
    found = measured(layer_call("self", 4, CPU), repeats=1, device=CPU)
    assert found.explicit is None
    assert "does not fit" in found.line


def test_only_the_sides_are_labelled():
    pytest.importorskip("matplotlib")
    results = [measured(layer_call("self", side, CPU), repeats=1, device=CPU) for side in (4, 6, 8)]
    for axes in drawn(results).axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "6", "8"]
        assert not [label.get_text() for label in axes.get_xticklabels(minor=True)]
