"""Put LoRA layers' scales back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.utils import is_peft_available


@contextmanager
def restored_lora_scale(model: torch.nn.Module | None) -> Iterator[None]:
    """Put every LoRA layer's scale back after the block, also if the block was interrupted half-way."""
    if model is None or not is_peft_available():
        yield
        return
    # in these words, or diffusers warns those who load this as a custom pipeline that they lack peft
    import peft.tuners.tuners_utils as tuners

    adapters = (module for module in model.modules() if isinstance(module, tuners.BaseTunerLayer))
    layers = [layer for layer in adapters if hasattr(layer, "scaling")]  # OFT's, for one, have no scale
    before = [dict(layer.scaling) for layer in layers]
    try:
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)
