"""Read cross-attention maps while a UNet runs, without changing what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from semantic_edit.attention_processors.install import AttentionProcessor, installed


@dataclass
class CrossAttentionMaps:
    """Sums of the cross-attention maps of the layers that were watched.

    totals: for each layer's path, (batch, queries, tokens) in float32: the mean over heads, summed over evaluations.
    evaluations: how many evaluations each layer's sum holds.
    """

    queries: int
    totals: dict[str, torch.Tensor] = field(default_factory=dict)
    evaluations: dict[str, int] = field(default_factory=dict)

    def mean(self) -> torch.Tensor:
        """The mean over layers and evaluations, (batch, queries, tokens).

        Raises:
            ValueError: If no layer with that many queries ran.
        """
        if not self.totals:
            raise ValueError(
                f"No cross-attention map of {self.queries} queries was captured: no watched layer has that resolution. "
                "Choose the height x width of one of the UNet's attention resolutions."
            )
        return torch.stack([total / self.evaluations[name] for name, total in self.totals.items()]).mean(
            dim=0
        )


@contextmanager
def captured_cross_attention(unet: UNet2DConditionModel, queries: int) -> Iterator[CrossAttentionMaps]:
    """Collect the cross-attention maps of all layers that have `queries` positions (16x16 are 256) in the block."""
    maps = CrossAttentionMaps(queries)

    def watch(name: str, present: AttentionProcessor) -> AttentionProcessor:
        return _CaptureAttnProcessor(name, present, maps) if ".attn2." in name else present

    with installed(unet, watch):
        yield maps


class _CaptureAttnProcessor:
    """Computes the layer's map beside the processor that was there, which still computes the output."""

    def __init__(self, name: str, present: AttentionProcessor, maps: CrossAttentionMaps) -> None:
        self.name, self.present, self.maps = name, present, maps

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        if encoder_hidden_states is not None and hidden_states.shape[1] == self.maps.queries:
            with torch.no_grad():
                self._add(attn, hidden_states, encoder_hidden_states, attention_mask)
        return self.present(attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs)

    def _add(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        text: torch.Tensor,
        attention_mask: torch.Tensor | None,
    ) -> None:
        if attn.norm_cross:
            text = attn.norm_encoder_hidden_states(text)
        query = attn.head_to_batch_dim(attn.to_q(hidden_states)).float()
        key = attn.head_to_batch_dim(attn.to_k(text)).float()
        probs = attn.get_attention_scores(query, key, attention_mask).float()
        probs = probs.view(hidden_states.shape[0], attn.heads, *probs.shape[1:]).mean(dim=1)
        self.maps.totals[self.name] = self.maps.totals.get(self.name, 0.0) + probs
        self.maps.evaluations[self.name] = self.maps.evaluations.get(self.name, 0) + 1
