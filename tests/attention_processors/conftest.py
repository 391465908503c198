"""Prompt-to-Prompt written plainly, with explicit maps, as a reference for the fused swaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_processor import Attention

from semantic_edit.attention_processors.swaps import PromptSwaps

Maps = torch.Tensor  # (batch, heads, queries, keys)


@dataclass(frozen=True)
class ExplicitStep:
    """One step of an edit: how the maps of `targets`, and of the unconditional rows, change."""

    edit: PromptSwaps
    step: int
    num_steps: int
    source: int
    targets: tuple[int, ...]
    unconditional_source: int | None = None
    unconditional_targets: tuple[int, ...] = ()

    def is_active(self, tau: float) -> bool:
        return self.step < round(100 * tau) * self.num_steps // 100  # in whole hundredths nothing is rounded

    def cross(self, maps: Maps) -> Maps:
        edited = maps.clone()
        for index, target in enumerate(self.targets):
            taken = maps[self.source] @ self.edit.matrices[index].to(maps)
            for token in range(maps.shape[-1]):
                column = maps[target, :, :, token]
                if self.is_active(float(self.edit.cross_until[index, token])):
                    share = float(self.edit.shared[index, token])
                    column = share * taken[:, :, token] + (1 - share) * column
                edited[target, :, :, token] = float(self.edit.factors[index, token]) * column
        return edited

    def self(self, maps: Maps) -> Maps:
        edited = maps.clone()
        if self.is_active(self.edit.self_until):
            for target in self.targets:
                edited[target] = maps[self.source]
        if self.unconditional_source is not None and self.is_active(self.edit.unconditional_self_until):
            for target in self.unconditional_targets:
                edited[target] = maps[self.unconditional_source]
        return edited


def explicit_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    edited: Callable[[Maps], Maps],
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """All tensors (batch, heads, positions, head width)."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return edited((scores if mask is None else scores + mask).softmax(dim=-1)) @ value


class ExplicitAttnProcessor:
    """A layer of Stable Diffusion's UNet, computed with explicit maps."""

    def __init__(
        self, step: ExplicitStep, self_queries: int | None = None, value_embeds: torch.Tensor | None = None
    ) -> None:
        self.step, self.self_queries, self.value_embeds = step, self_queries, value_embeds

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        keys_from = values_from = hidden_states
        is_small = self.self_queries is None or hidden_states.shape[1] <= self.self_queries
        edited = self.step.self if is_small else torch.clone
        if encoder_hidden_states is not None:
            keys_from = values_from = encoder_hidden_states
            edited = self.step.cross
            if self.value_embeds is not None:
                values_from = self.value_embeds
        projected = (attn.to_q(hidden_states), attn.to_k(keys_from), attn.to_v(values_from))
        query, key, value = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in projected)
        output = explicit_attention(query, key, value, edited)
        return attn.to_out[0](output.transpose(1, 2).flatten(2))


@pytest.fixture(scope="session")
def explicit() -> SimpleNamespace:
    return SimpleNamespace(
        Step=ExplicitStep, attention=explicit_attention, AttnProcessor=ExplicitAttnProcessor
    )
