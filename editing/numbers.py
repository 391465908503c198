"""Convert arrays and tensors as callers have them to tensors that can be computed with."""

from __future__ import annotations

import numpy as np
import torch

OVERSHOOT = 0.02
"""Values up to this far beyond [0, 1] are clipped: cubic interpolation overshoots a little."""


def native_tensor(name: str, values: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Convert an array of any byte order and width, or a tensor, to a tensor that can be computed with.

    Args:
        name: The caller's argument.
        values: The array or tensor.

    Raises:
        ValueError: If they are not numbers, or no tensor can hold them unchanged.
    """
    if isinstance(values, torch.Tensor):
        check_dense(name, values)
        return values.detach()
    if isinstance(values, np.ma.MaskedArray) and values.mask.any():
        raise ValueError(
            f"`{name}` is an array that hides {np.count_nonzero(values.mask)} of its values; pass one that has them "
            "all, as `.filled(0)` gives."
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` is an array of {values.dtype}, and no array of numbers; bring it into 8-bit integers or floats "
            "with `.astype`."
        )
    is_wide = values.dtype.kind == "f" and values.dtype.itemsize > 8
    native = np.ascontiguousarray(values, dtype=np.float64 if is_wide else values.dtype.newbyteorder("="))
    return torch.from_numpy(native if native.flags.writeable else native.copy())  # torch warns if read-only


def check_dense(name: str, values: torch.Tensor) -> None:
    """Raise unless a tensor can be computed with as it is.

    Args:
        name: The caller's argument.
        values: The tensor.

    Raises:
        ValueError: If it is sparse, nested, quantized or complex, or has a shape but no values.
    """
    if values.is_meta:
        raise ValueError(
            f'`{name}` is a tensor without values, on the device "meta"; pass one that has them.'
        )
    if values.is_nested or values.layout != torch.strided or values.is_quantized or values.is_complex():
        kind = "nested" if values.is_nested else f"of {values.dtype}, {values.layout}"
        raise ValueError(
            f"`{name}` is a tensor that is {kind}; pass a dense one of real numbers, as "
            "`.to_dense()` gives of a sparse one."
        )


def unit_floats(name: str, values: torch.Tensor, advice: str) -> torch.Tensor:
    """Convert to float32 numbers in [0, 1], clipping a little overshoot.

    Args:
        name: The caller's argument.
        values: The numbers.
        advice: What to do about numbers that are out of range.

    Raises:
        ValueError: If numbers are out of range or not finite.
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
