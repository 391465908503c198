"""Put attention processors into a UNet for a while, and always put back what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel

# What diffusers calls for an attention layer: (attn, hidden_states, encoder_hidden_states, …) -> hidden_states.
AttentionProcessor = Callable[..., Any]


@contextmanager
def installed(
    unet: UNet2DConditionModel, make: Callable[[str, AttentionProcessor], AttentionProcessor]
) -> Iterator[None]:
    """Let `make(layer, present)` choose the processor of every attention layer while the block runs.

    Args:
        unet: Its processors are exchanged; nothing else of it changes.
        make: Gets the layer's module path, such as "mid_block.attentions.0.transformer_blocks.0.attn2.processor", and
            the processor that is there now; returns the one to use. A processor that keeps the present one and calls
            it leaves an IP-Adapter, or whatever a user had installed, at work.

    The processors that were there return afterwards, the same objects, also when the block raises.
    """
    before = dict(unet.attn_processors)
    chosen = {name: make(name, present) for name, present in before.items()}
    try:
        unet.set_attn_processor(chosen)
        yield
    finally:
        unet.set_attn_processor(dict(before))  # a copy: the setter empties the dict that it is given
