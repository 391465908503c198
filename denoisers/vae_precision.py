"""VAEs that overflow in half precision, as SDXL's does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from semantic_edit.attention_processors.locks import lock_of

HALF_TYPES = (torch.float16, torch.bfloat16)


@contextmanager
def upcast_if_forced(vae: Any) -> Iterator[None]:
    """Run a half-precision VAE in float32 during the block if its config says `force_upcast`.

    Other threads that need the same VAE wait, so that none finds it half-way converted.
    """
    if not vae.config.get("force_upcast", False):
        yield
        return
    with lock_of(vae):
        own = vae.dtype
        if own in HALF_TYPES:
            # not its own `to`, which warns of modules to be kept in float32 where there are none
            try:
                torch.nn.Module.to(vae, torch.float32)
                yield
            finally:
                torch.nn.Module.to(vae, own)
            return
    yield


@contextmanager
def told_of_overflow(vae: Any) -> Iterator[None]:
    """Add advice to an error about NaN or infinite values if the VAE runs in half precision.

    Raises:
        FloatingPointError: The block's own, with the advice.
    """
    try:
        yield
    except FloatingPointError as error:
        if vae.dtype not in HALF_TYPES or vae.config.get("force_upcast", False):
            raise
        raise FloatingPointError(
            f"{error} The VAE that SDXL was published with overflows in half precision, and this one's config says "
            "`force_upcast=False`: `pipe.vae.register_to_config(force_upcast=True)` lets it compute in float32; or "
            "load one that was made for half precision, such as madebyollin/sdxl-vae-fp16-fix."
        ) from error
