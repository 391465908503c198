"""Arrays and tensors of numbers as people have them, as tensors that can be worked with."""

from __future__ import annotations

import numpy as np
import torch

OVERSHOOT = 0.02
"""How far beyond [0, 1] values may lie that are taken for 0 and 1: cubic interpolation leaves some there."""


def native_tensor(name: str, values: np.ndarray | torch.Tensor) -> torch.Tensor:
    """The numbers of an array in any byte order and width, or those of a tensor, as a tensor that can be computed with.

    Args:
        name: The caller's argument.

    Raises:
        ValueError: If they are no numbers, or no tensor holds them as they are.
    """
    if isinstance(values, torch.Tensor):
        if values.layout != torch.strided or values.is_quantized or values.is_complex() or values.is_meta:
            kind = (
                "a tensor without values"
                if values.is_meta
                else f"a tensor of {values.dtype}, {values.layout}"
            )
            raise ValueError(f"`{name}` is {kind}; pass a dense one of real numbers, as `.to_dense()` gives.")
        return values.detach()
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` is an array of {values.dtype}, and no array of numbers; bring it into 8-bit integers or floats "
            "with `.astype`."
        )
    is_wide = values.dtype.kind == "f" and values.dtype.itemsize > 8
    native = np.ascontiguousarray(values, dtype=np.float64 if is_wide else values.dtype.newbyteorder("="))
    return torch.from_numpy(native if native.flags.writeable else native.copy())  # torch warns of others


def unit_floats(name: str, values: torch.Tensor, advice: str) -> torch.Tensor:
    """Numbers in [0, 1], but for a little overshoot, in float32.

    Args:
        name: The caller's argument.
        advice: What to do about others.

    Raises:
        ValueError: If there are others.
    """
    values = values.float()
    if not values.numel():
        return values
    low, high = (float(end) for end in values.aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):  # one NaN makes both NaN
        raise ValueError(f"`{name}` holds NaN or infinite values; they must be finite and in [0, 1].")
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise ValueError(
            f"`{name}` must hold floats in [0, 1], got values from {low:g} to {high:g}. {advice}"
        )
    return values.clamp(0, 1) if low < 0 or high > 1 else values
