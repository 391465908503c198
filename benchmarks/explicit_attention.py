"""Prompt-to-Prompt's swaps on explicit attention maps, as in the published code, for comparison with fused swaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.control import AttentionControl, AttentionPlan
from semantic_edit.attention_processors.install import installed
from semantic_edit.attention_processors.layers import (
    normed_text,
    positions,
    queries_and_keys,
    split_heads,
)
from semantic_edit.attention_processors.swaps import CrossSwap, SelfSwap


def explicit_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    swaps: Sequence[CrossSwap | SelfSwap],
    scale: float | None = None,
) -> torch.Tensor:
    """Attention from (batch, heads, positions, head width), by way of maps (batch, heads, queries, keys)."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    maps = (query @ key.transpose(-1, -2) * factor).softmax(dim=-1)
    swap_maps(maps, swaps)
    return maps @ value


def swap_maps(maps: torch.Tensor, swaps: Sequence[CrossSwap | SelfSwap]) -> None:
    """Overwrite the target rows of maps (batch, heads, queries, keys)."""
    for swap in swaps:
        for index, target in enumerate(swap.targets):
            if isinstance(swap, SelfSwap):
                maps[target] = maps[swap.source]
            else:
                maps[target] *= swap.from_target[index].to(maps)
                maps[target] += maps[swap.source] @ swap.from_source[index].to(maps)


class ExplicitAttnProcessor:
    """Does what [`ControlledAttnProcessor`] does, with explicit maps in every layer."""

    def __init__(self, control: AttentionControl) -> None:
        self.control = control

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        plan = self.control.plan or AttentionPlan()
        queries_from = positions(attn, hidden_states, temb)
        keys_from = values_from = queries_from
        swaps: tuple[Any, ...] = plan.self_swaps
        if encoder_hidden_states is not None:
            keys_from = values_from = normed_text(attn, encoder_hidden_states)
            swaps = plan.cross_swaps
            if plan.value_embeds is not None:
                values_from = normed_text(attn, plan.value_embeds.to(keys_from))
        elif plan.self_queries is not None and queries_from.shape[1] > plan.self_queries:
            swaps = ()
        query, key = queries_and_keys(attn, queries_from, keys_from)
        value = split_heads(attn, attn.to_v(values_from))
        output = explicit_attention(query, key, value, swaps, attn.scale)
        return attn.to_out[0](output.transpose(1, 2).flatten(2))


@contextmanager
def explicitly_controlled(borrowed: BorrowedNetwork) -> Iterator[AttentionControl]:
    """`controlled_attention` with explicit maps."""
    control = AttentionControl()
    processor = ExplicitAttnProcessor(control)
    with installed(borrowed, lambda layer, present: processor):
        yield control
