"""Let no NaN or infinite values past a stage: its results are recorded as it runs, and checked once at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class FiniteWatch:
    """Records what one stage computes, in order.

    Only a single number is kept for each tensor, on the tensor's device, so that a GPU is waited for once per stage and
    not once per step.
    """

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.sums: list[torch.Tensor] = []

    def see(self, source: str, values: torch.Tensor) -> None:
        """Record a tensor.

        Args:
            source: Where it comes from, in the words of the error.
            values: The tensor.
        """
        self.sources.append(source)
        # multiplied by 0, non-finite values become NaN and all others 0; on some devices, a maximum ignores NaN
        self.sums.append((values.detach() * 0).sum(dtype=torch.float32))

    def see_returned(self, changed: Mapping[str, Any], step: int, timestep: float) -> None:
        """Record the tensors that a callback returned after a step, by name."""
        for name, values in changed.items():
            if isinstance(values, torch.Tensor) and values.is_floating_point():
                self.see(at_step(f"the callback's `{name}`", step, timestep), values)

    def check(self) -> None:
        """Check everything that was recorded.

        Raises:
            FloatingPointError: Naming the first source that gave NaN or infinite values.
        """
        if not self.sums:
            return
        here = [one.to(self.sums[0].device) for one in self.sums]
        for source, is_finite in zip(self.sources, torch.isfinite(torch.stack(here)).tolist(), strict=True):
            if not is_finite:
                raise FloatingPointError(
                    f"NaN or infinite values came from {source}. float16 ends at 65504: run the model in float32 or "
                    "bfloat16, or its VAE alone in float32. If nothing is in float16, the weights, the settings or "
                    "what a callback returned are too large or damaged."
                )


def check_finite(source: str, values: torch.Tensor) -> None:
    """Raise if a tensor holds NaN or infinite values; see `FiniteWatch`.

    Args:
        source: Where it comes from, in the words of the error.
        values: The tensor.

    Raises:
        FloatingPointError: Naming the source.
    """
    watch = FiniteWatch()
    watch.see(source, values)
    watch.check()


def at_step(stage: str, step: int, timestep: float) -> str:
    """The name of a stage's step, for `FiniteWatch`."""
    return f"{stage} at step {step} (timestep {timestep})"
