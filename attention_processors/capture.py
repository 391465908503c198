"""Read attention maps while a UNet runs, without changing what it computes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, StandIn
from semantic_edit.attention_processors.layers import (
    AttentionLayer,
    attention_layers,
    attention_maps,
    normed_text,
    positions,
    prepared_mask,
    queries_and_keys,
)

LayerChoice = Collection[str] | Callable[[AttentionLayer], bool]


@dataclass
class AttentionMaps:
    """The attention maps of the layers that were watched, by the layers' paths; in float32 or better.

    totals: (rows, queries, keys), the mean over heads, summed over evaluations; or, if heads are kept, (rows, heads,
        queries, keys) of the latest evaluation.
    evaluations: How many evaluations each layer's total holds.
    """

    totals: dict[str, torch.Tensor] = field(default_factory=dict)
    evaluations: dict[str, int] = field(default_factory=dict)

    def mean(self) -> torch.Tensor:
        """The mean over layers and evaluations, in the shape of one layer's.

        Raises:
            ValueError: If no watched layer ran, or if their maps differ in shape.
        """
        shapes = {tuple(total.shape) for total in self.totals.values()}
        if not shapes:
            raise ValueError(
                "No attention map was captured: none of the watched layers ran, or none that did has the wanted "
                "number of queries. Choose height x width of one of the UNet's attention resolutions."
            )
        if len(shapes) > 1:
            raise ValueError(
                f"Maps of the shapes {sorted(shapes)} have no mean. Watch layers of one resolution: pass `queries`."
            )
        means = [total / self.evaluations[name] for name, total in self.totals.items()]
        return torch.stack(means).mean(dim=0)

    def clear(self) -> None:
        """Forget what was captured; the next evaluation starts from nothing."""
        self.totals.clear()
        self.evaluations.clear()


def captured_cross_attention(
    borrowed: BorrowedNetwork, queries: int
) -> AbstractContextManager[AttentionMaps]:
    """Collect the cross-attention maps of all layers that have `queries` positions (16x16 are 256) in the block."""
    return captured_attention(borrowed, lambda layer: layer.is_cross, queries)


@contextmanager
def captured_attention(
    borrowed: BorrowedNetwork,
    layers: LayerChoice,
    queries: int | None = None,
    *,
    rows: Sequence[int] | None = None,
    tokens: Sequence[int] | None = None,
    keep_heads: bool = False,
    differentiable: bool = False,
    device: torch.device | str | None = None,
) -> Iterator[AttentionMaps]:
    """Collect what was asked for, and nothing else, of the attention maps of a borrowed UNet's evaluations.

    The maps are the softmax of each row's own queries and keys, computed beside whatever processor works in the layer:
    swaps of [`controlled_attention`] do not show in them. (They are linear: apply them to the maps.)

    Args:
        layers: Module paths, or a predicate that says of each [`AttentionLayer`] whether to watch it.
        queries: Only maps of so many queries are kept; by default those of any resolution.
        rows: The rows of the batch to keep; by default all.
        tokens: The columns to keep, tokens in cross attention and positions in self attention; by default all.
        keep_heads: Keep the heads apart, of the latest evaluation, instead of the mean over heads summed up.
        differentiable: Let gradients flow through the maps.
        device: Where the maps are kept; by default where they are computed.

    Raises:
        ValueError: If no layer is chosen or a path is unknown. While the UNet runs, if a row or column is not there.
    """
    maps = AttentionMaps()
    recorder = _MapRecorder(maps, queries, rows, tokens, keep_heads, differentiable, device)
    unet = borrowed.network
    with borrowed.changes():
        for layer in _chosen_layers(unet, layers):
            attn = unet.get_submodule(layer.name)
            borrowed.replace(attn, "forward", _Watched(borrowed, attn, recorder, layer.name))
        yield maps


def _chosen_layers(unet: UNet2DConditionModel, choice: LayerChoice) -> list[AttentionLayer]:
    layers = attention_layers(unet)
    if callable(choice):
        chosen = [layer for layer in layers if choice(layer)]
    else:
        known = {layer.name for layer in layers}
        if unknown := sorted(set(choice) - known):
            raise ValueError(
                f"No attention layer is called {unknown[0]!r}. Layers go by their module paths, such as "
                f"{min(known)!r}: `attention_layers(unet)` lists them."
            )
        chosen = [layer for layer in layers if layer.name in choice]
    if not chosen:
        raise ValueError(
            f"None of the {len(layers)} attention layers is chosen, so there is nothing to capture: see "
            "`attention_layers(unet)`."
        )
    return chosen


class _Watched(StandIn):
    """An attention layer's `forward` whose inputs a recorder sees first.

    Not a processor: one that wraps another would not get the other's keyword arguments from diffusers, which reads off
    the processor's signature what to hand on (an IP-Adapter's masks, for one).
    """

    def __init__(self, borrowed: BorrowedNetwork, attn: Attention, recorder: _MapRecorder, name: str) -> None:
        super().__init__(borrowed, attn.forward)
        self.attn, self.recorder, self.name = attn, recorder, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.borrowed.acts:
            recorder = self.recorder
            if self.borrowed.recomputes:  # in the same steps, but these maps are there already
                recorder = replace(recorder, maps=AttentionMaps())
            recorder.see(self.name, self.attn, *args, **kwargs)
        return self.usual(*args, **kwargs)


@dataclass(frozen=True)
class _MapRecorder:
    """Computes from a layer's inputs the maps that were asked for."""

    maps: AttentionMaps
    queries: int | None
    rows: Sequence[int] | None
    tokens: Sequence[int] | None
    keep_heads: bool
    differentiable: bool
    device: torch.device | str | None

    def see(
        self,
        name: str,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | tuple[Any, ...] | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        **others: Any,
    ) -> None:
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            queries_from = positions(attn, hidden_states, temb)
            if self.queries not in (None, queries_from.shape[1]):
                return
            keys_from = queries_from
            if encoder_hidden_states is not None:
                text = encoder_hidden_states
                if isinstance(text, tuple):  # with an IP-Adapter: the text, and pictures
                    text, *_ = text
                keys_from = normed_text(attn, text)
            self._add(name, self._maps(attn, queries_from, keys_from, attention_mask))

    def _maps(
        self,
        attn: Attention,
        queries_from: torch.Tensor,
        keys_from: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """(rows, heads, queries, keys)."""
        queries_from, keys_from = self._kept_rows(queries_from), self._kept_rows(keys_from)
        mask = prepared_mask(attn, None if mask is None else self._kept_rows(mask), keys_from)
        query, key = queries_and_keys(attn, queries_from, keys_from)
        return self._kept_columns(attention_maps(attn, query, key, mask))

    def _kept_rows(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self.rows is None else _picked(tensor, self.rows, 0, "rows")

    def _kept_columns(self, maps: torch.Tensor) -> torch.Tensor:
        return maps if self.tokens is None else _picked(maps, self.tokens, 3, "tokens")

    def _add(self, name: str, maps: torch.Tensor) -> None:
        if self.keep_heads:
            self.maps.totals[name] = maps.to(device=self.device)
            self.maps.evaluations[name] = 1
        else:
            self.maps.totals[name] = self.maps.totals.get(name, 0.0) + maps.mean(dim=1).to(device=self.device)
            self.maps.evaluations[name] = self.maps.evaluations.get(name, 0) + 1


def _picked(tensor: torch.Tensor, indices: Sequence[int], dim: int, name: str) -> torch.Tensor:
    size = tensor.shape[dim]
    if not all(0 <= index < size for index in indices):
        raise ValueError(
            f"`{name}` to capture are {list(indices)} and this evaluation has {size} of them, counted from 0."
        )
    return torch.stack([tensor.select(dim, index) for index in indices], dim)
