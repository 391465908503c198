"""Joint attention of picture and text, as transformers of rectified flows have it: read it while the network runs.

Picture and text share one softmax. The text's columns in the picture's rows are what cross-attention is in a UNet.
Whatever processor a layer has, its fused attention is one call on queries and keys that are ready: normalised, and with
their positions. So that call is what is watched, in each layer's own evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, StandIn
from semantic_edit.attention_processors.capture import AttentionMaps

Attend: TypeAlias = Callable[..., torch.Tensor]

UNWATCHED = (
    "joint attention is computed by a backend that cannot be watched. Call "
    "`pipe.transformer.reset_attention_backend()`."
)


@dataclass(frozen=True)
class TokenLayout:
    """Where tokens are along the sequence of joint attention.

    image: The picture's tokens, row by row.
    text: Those of the prompt whose words are known.
    length: Number of all tokens.
    """

    image: slice
    text: slice
    length: int


@contextmanager
def captured_text_columns(
    borrowed: BorrowedNetwork, layout: TokenLayout, rows: slice | None = None
) -> Iterator[AttentionMaps]:
    """Collect the text's columns of all joint attention layers while the block runs; they carry no gradients.

    Args:
        borrowed: A transformer.
        layout: Of its evaluations in the block.
        rows: The rows of the batch to keep; by default all.

    Yields:
        The columns collected so far.
    """
    columns, kept = AttentionMaps(UNWATCHED), rows or slice(None)

    def seen(
        name: str, attend: Attend, query: torch.Tensor, key: torch.Tensor, *others: Any, **named: Any
    ) -> torch.Tensor:
        if query.shape[-2] == layout.length == key.shape[-2]:
            mask, scale = named.get("attn_mask", others[1] if len(others) > 1 else None), named.get("scale")
            mask = mask if mask is None or len(mask) == 1 else mask[kept]
            columns.add(name, _text_columns(query[kept], key[kept], mask, scale, layout))
        return attend(query, key, *others, **named)

    with attention_calls(borrowed, seen):
        yield columns


@torch.no_grad()
def _text_columns(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    layout: TokenLayout,
) -> torch.Tensor:
    """(rows, heads, picture tokens, text tokens) of the softmax over all keys, in float32."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = scale * query[..., layout.image, :].float() @ key.float().transpose(-1, -2)
    if mask is not None:
        mask = mask if mask.shape[-2] == 1 else mask[..., layout.image, :]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1)[..., layout.text]


@contextmanager
def attention_calls(borrowed: BorrowedNetwork, handle: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Let a function stand for fused attention in all attention layers of a network while the block runs.

    Args:
        borrowed: A transformer.
        handle: `handle(name, attend, query, key, value, …)` is called in place of each call of
            `scaled_dot_product_attention` by the layer at the module path `name`; `attend` is that function, and
            queries, keys and values are (rows, heads, tokens, head width).
    """
    with borrowed.changes():
        for name, module in borrowed.network.named_modules():
            if _is_attention(module):
                borrowed.replace(module, "forward", _HandledLayer(borrowed, module.forward, name, handle))
        yield


class _HandledLayer(StandIn):
    """An attention layer's `forward` whose fused attention goes through a handler."""

    def __init__(
        self,
        borrowed: BorrowedNetwork,
        usual: Callable[..., Any],
        name: str,
        handle: Callable[..., torch.Tensor],
    ) -> None:
        super().__init__(borrowed, usual)
        self.name, self.handle = name, handle

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.borrowed.acts:
            return self.usual(*args, **kwargs)
        with _Handled(self.name, self.handle):
            return self.usual(*args, **kwargs)


class _Handled(TorchFunctionMode):
    """Fused attention in this thread goes through a handler."""

    def __init__(self, name: str, handle: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.name, self.handle = name, handle

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return self.handle(self.name, func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def shared_projections(
    borrowed: BorrowedNetwork,
    image: slice,
    source_of: Mapping[int, int],
    layers: Collection[str] | None = None,
) -> Iterator[None]:
    """Let rows of the batch use other rows' queries and keys for the picture's tokens while the block runs.

    What the picture's tokens look at among themselves then has the other row's structure, whatever the text says:
    Prompt-to-Prompt's self-attention swap, for joint attention (arXiv:2508.07519). Attention stays fused.

    Args:
        borrowed: A transformer.
        image: Where the picture's tokens are along the sequence.
        source_of: For each row that takes another's projections, that row.
        layers: Module paths of the layers that share; by default all.

    Raises:
        ValueError: If none of these layers ran, or none computes fused attention as torch does.
    """
    targets, sources = list(source_of), list(source_of.values())
    shared: set[str] = set()

    def taken(projected: torch.Tensor) -> torch.Tensor:
        mixed = projected.clone()
        mixed[targets, :, image] = projected[sources, :, image]
        return mixed

    def share(
        name: str, attend: Attend, query: torch.Tensor, key: torch.Tensor, *others: Any, **named: Any
    ) -> torch.Tensor:
        if layers is None or name in layers:
            query, key = taken(query), taken(key)
            shared.add(name)
        return attend(query, key, *others, **named)

    with attention_calls(borrowed, share):
        yield
    if not shared:
        raise ValueError(f"No attention was shared: {UNWATCHED}")


def joint_layers(transformer: torch.nn.Module) -> list[str]:
    """The module paths of a transformer's attention layers, in the order of its modules."""
    return [name for name, module in transformer.named_modules() if _is_attention(module)]


def _is_attention(module: torch.nn.Module) -> bool:
    # not by "to_q": FLUX.2's parallel blocks project queries, keys, values and more at once
    return hasattr(module, "processor")
