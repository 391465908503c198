"""Nothing that is not finite gets past a stage: what it computes is watched, and looked at once at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class FiniteWatch:
    """What one stage computes, in its order.

    Of each tensor a single number is kept, where the tensor lies, so that a GPU is waited for once a stage and not once
    a step.
    """

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.largest: list[torch.Tensor] = []

    def see(self, source: str, values: torch.Tensor) -> None:
        """Watch a tensor.

        Args:
            source: Where it comes from, as the error says it.
        """
        # the largest of all magnitudes is NaN if any is, and takes one operation
        largest = torch.linalg.vector_norm(values.detach(), float("inf"))
        self.sources.append(source)
        self.largest.append(largest.float())

    def see_returned(self, changed: Mapping[str, Any], step: int, timestep: int) -> None:
        """Watch what a callback returned after a step, by name."""
        for name, values in changed.items():
            if isinstance(values, torch.Tensor) and values.is_floating_point():
                self.see(at_step(f"the callback's `{name}`", step, timestep), values)

    def check(self) -> None:
        """Look at everything that was seen.

        Raises:
            FloatingPointError: Naming the first source that gave NaN or infinite values.
        """
        if not self.largest:
            return
        here = [one.to(self.largest[0].device) for one in self.largest]
        for source, is_finite in zip(self.sources, torch.isfinite(torch.stack(here)).tolist(), strict=True):
            if not is_finite:
                raise FloatingPointError(
                    f"NaN or infinite values came from {source}. float16 ends at 65504: run the model in float32 or "
                    "bfloat16, or its VAE alone in float32. If nothing is in float16, the weights, the settings or "
                    "what a callback returned are too large or damaged."
                )


def check_finite(source: str, values: torch.Tensor) -> None:
    """Refuse to go on with a tensor that holds NaN or infinite values; see `FiniteWatch`.

    Raises:
        FloatingPointError: Naming the source.
    """
    watch = FiniteWatch()
    watch.see(source, values)
    watch.check()


def at_step(stage: str, step: int, timestep: int) -> str:
    """A step of a stage, as `FiniteWatch` names it."""
    return f"{stage} at step {step} (timestep {timestep})"
