"""Restore the scales of LoRA layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.utils import is_peft_available


@contextmanager
def restored_lora_scale(model: torch.nn.Module | None) -> Iterator[None]:
    """Restore every LoRA layer's scale after the block, even if the block was interrupted half-way."""
    if model is None or not is_peft_available():
        yield
        return
    # written like this, or diffusers warns users who load this as a custom pipeline that they lack peft
    import peft.tuners.tuners_utils as tuners

    adapters = (module for module in model.modules() if isinstance(module, tuners.BaseTunerLayer))
    layers = [layer for layer in adapters if hasattr(layer, "scaling")]  # OFT's have none
    before = [dict(layer.scaling) for layer in layers]
    try:
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)
