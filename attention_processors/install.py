"""Put attention processors into a UNet for a while, and always put back what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from semantic_edit.attention_processors.borrowing import BorrowedNetwork

# What diffusers calls for an attention layer: (attn, hidden_states, encoder_hidden_states, …) -> hidden_states.
AttentionProcessor = Callable[..., Any]


@contextmanager
def installed(
    borrowed: BorrowedNetwork, make: Callable[[str, AttentionProcessor], AttentionProcessor]
) -> Iterator[None]:
    """Let `make(layer, present)` choose the processor of every attention layer while the block runs.

    Args:
        borrowed: A UNet. Its processors are exchanged; nothing else of it changes.
        make: Gets the layer's module path, such as "mid_block.attentions.0.transformer_blocks.0.attn2.processor", and
            the processor that is there now; returns the one to use, a [`StandIn`] unless it is for whoever calls the
            UNet. A processor that keeps the present one and calls it leaves an IP-Adapter, or whatever a user had
            installed, at work.

    The processors that were there return afterwards, the same objects, also when the block raises.

    Raises:
        RuntimeError: At the end of the block, if others have taken the place of these processors in the meantime.
    """
    unet = borrowed.network
    layers = {name: unet.get_submodule(name.rpartition(".")[0]) for name in unet.attn_processors}
    chosen = {name: make(name, layer.processor) for name, layer in layers.items()}
    with borrowed.changes():
        for name, layer in layers.items():
            borrowed.replace(layer, "processor", chosen[name])
        yield
        for name, layer in layers.items():
            if layer.processor is not chosen[name]:
                raise RuntimeError(
                    f"The attention processor of {name.rpartition('.')[0]} was exchanged from outside while the UNet "
                    "was in use here, so what it computed is of neither kind. Load IP-Adapters and set processors "
                    "before or after, or give each thread a pipeline with a UNet of its own."
                )
