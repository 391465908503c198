"""Put attention processors into a UNet for a while, and always put the old ones back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from semantic_edit.attention_processors.borrowing import BorrowedNetwork

# What diffusers calls in an attention layer: (attn, hidden_states, encoder_hidden_states, …) -> hidden_states.
AttentionProcessor = Callable[..., Any]


@contextmanager
def installed(
    borrowed: BorrowedNetwork, make: Callable[[str, AttentionProcessor], AttentionProcessor]
) -> Iterator[None]:
    """Let `make(layer, present)` choose the processor of every attention layer while the block runs.

    Afterwards the layers have their former processors again, the same objects, even if the block raises.

    Args:
        borrowed: A UNet. Only its processors are replaced.
        make: Receives the layer's module path, such as "mid_block.attentions.0.transformer_blocks.0.attn2.processor",
            and its present processor; returns the one to use, which should be a [`StandIn`] unless it is meant to act
            for everybody who calls the UNet. A processor that calls the present one keeps an IP-Adapter, or whatever
            else a user had installed, working.

    Raises:
        RuntimeError: At the end of the block, if the processors have been replaced from outside in the meantime.
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
                    f"The attention processor of {name.rpartition('.')[0]} was replaced from outside while the UNet "
                    "was in use here, so the result mixes two kinds of attention. Load IP-Adapters and set processors "
                    "before or after, or give each thread a pipeline with a UNet of its own."
                )
