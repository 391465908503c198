"""Read cross-attention maps while a UNet runs, without changing what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention_processor import Attention

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, StandIn
from semantic_edit.attention_processors.layers import (
    attention_layers,
    attention_maps,
    normed_text,
    positions,
    prepared_mask,
    queries_and_keys,
)


@dataclass
class AttentionMaps:
    """How strongly positions attend to tokens in the watched layers, by module path; in float32 or better.

    missing: Why there may be none, and what to do.
    totals: (rows, queries, tokens), the mean over heads, summed over evaluations.
    evaluations: The number of evaluations in each layer's total.
    """

    missing: str = (
        "either no watched layer ran, or none that ran has the requested number of queries. Choose the height x width "
        "of one of the UNet's attention resolutions."
    )
    totals: dict[str, torch.Tensor] = field(default_factory=dict)
    evaluations: dict[str, int] = field(default_factory=dict)

    def mean(self) -> torch.Tensor:
        """The mean over layers and evaluations, (rows, queries, tokens).

        Raises:
            ValueError: If no watched layer ran.
        """
        if not self.totals:
            raise ValueError(f"No attention map was captured: {self.missing}")
        means = [total / self.evaluations[name] for name, total in self.totals.items()]
        return torch.stack(means).mean(dim=0)

    def add(self, name: str, maps: torch.Tensor) -> None:
        """Add one evaluation's maps of a layer, (rows, heads, queries, tokens)."""
        self.totals[name] = self.totals.get(name, 0.0) + maps.mean(dim=1)
        self.evaluations[name] = self.evaluations.get(name, 0) + 1


@contextmanager
def captured_cross_attention(
    borrowed: BorrowedNetwork, queries: int, rows: slice | None = None
) -> Iterator[AttentionMaps]:
    """Collect the cross-attention maps of all layers with `queries` positions while the block runs.

    The maps are the softmax of each row's own queries and keys, computed alongside whatever processor the layer has, so
    the swaps of [`controlled_attention`] do not show in them. (Swaps are linear and can be applied to the maps.) The
    maps carry no gradients.

    Args:
        borrowed: A UNet.
        queries: Number of positions; 16x16 positions are 256.
        rows: The rows of the batch to keep; by default all.

    Yields:
        The maps collected so far.
    """
    maps, unet = AttentionMaps(), borrowed.network
    with borrowed.changes():
        for layer in attention_layers(unet):
            if layer.is_cross:
                attn = unet.get_submodule(layer.name)
                watch = _LayerWatch(maps, layer.name, queries, rows or slice(None))
                borrowed.replace(attn, "forward", _Watched(borrowed, attn, watch))
        yield maps


class _Watched(StandIn):
    """An attention layer's `forward` that first records the layer's maps.

    This is not a processor because diffusers reads a processor's signature to decide which keyword arguments to pass
    on: one that wraps another would not receive the other's (an IP-Adapter's masks, for example).
    """

    def __init__(self, borrowed: BorrowedNetwork, attn: Attention, watch: _LayerWatch) -> None:
        super().__init__(borrowed, attn.forward)
        self.attn, self.watch = attn, watch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.borrowed.acts and not self.borrowed.recomputes:
            self._see(*args, **kwargs)
        return self.usual(*args, **kwargs)

    @torch.no_grad()
    def _see(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | tuple[Any, ...],
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        **others: Any,
    ) -> None:
        attn, rows = self.attn, self.watch.rows
        queries_from = positions(attn, hidden_states, temb)
        if queries_from.shape[1] != self.watch.queries:
            return
        text = encoder_hidden_states
        if isinstance(text, tuple):  # with an IP-Adapter: the text and the pictures
            text, *_ = text
        queries_from, keys_from = queries_from[rows], normed_text(attn, text)[rows]
        mask = prepared_mask(attn, None if attention_mask is None else attention_mask[rows], keys_from)
        self.watch.collected.add(
            self.watch.name, attention_maps(attn, *queries_and_keys(attn, queries_from, keys_from), mask)
        )


@dataclass(frozen=True)
class _LayerWatch:
    """Which maps of one layer are wanted, and where they are collected."""

    collected: AttentionMaps
    name: str
    queries: int
    rows: slice
