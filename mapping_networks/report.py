"""What learning did, step by step and picture by picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StepReport:
    """One step of learning; every tuple has one entry per picture.

    step: 0-based index, 0 the noisiest.
    level: The noise level at which the step starts, `steps - step`.
    latent_before, latent_after: Mean squared error of the latents that the step leads to, with the network that it
        started from and with the one that it learned.
    attention_before, attention_after: The sum over layers of the maps' mean squared errors; 0 without attention loss.
    updates: Number of backward evaluations.
    forward_evaluations: Number of forward evaluations, including the unconditional one.
    seconds: Duration of the whole step.
    """

    step: int
    level: int
    latent_before: tuple[float, ...]
    latent_after: tuple[float, ...]
    attention_before: tuple[float, ...]
    attention_after: tuple[float, ...]
    updates: tuple[int, ...]
    forward_evaluations: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, repr=False)
class LearningReport:
    """A whole run of learning; every tuple has one entry per picture.

    steps: One report per step, the noisiest first.
    converged: Whether `latent_errors` fell below the settings' `converged_below`.
    """

    steps: tuple[StepReport, ...]
    converged: tuple[bool, ...]

    def __repr__(self) -> str:
        worst = f"latent error {max(self.latent_errors):.2g} at worst"
        told = f"{len(self.steps)} steps, {len(self.converged)} pictures, {worst}, {self.seconds:.1f} s"
        return f"{type(self).__name__}({told})"

    @property
    def latent_errors(self) -> tuple[float, ...]:
        """Mean squared error of the clean latents that the learned networks reconstruct."""
        return self.steps[-1].latent_after

    @property
    def forward_evaluations(self) -> tuple[int, ...]:
        """Number of forward evaluations, conditional and unconditional, not counting the inversion's."""
        return _totals([report.forward_evaluations for report in self.steps])

    @property
    def backward_evaluations(self) -> tuple[int, ...]:
        """Number of backward evaluations."""
        return _totals([report.updates for report in self.steps])

    @property
    def seconds(self) -> float:
        """Duration of all steps, including those that an interrupted run had finished."""
        return sum(report.seconds for report in self.steps)


def _totals(rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(column) for column in zip(*rows, strict=True))


@dataclass(frozen=True, eq=False, repr=False)
class LearningResult:
    """The result of `learn_mappings`.

    parameters: (pictures, steps, *shape) for each name of `parameter_shapes`, step 0 the noisiest.
    latents: The clean latents that the learned networks reconstruct, (pictures, channels, height, width).
    report: What learning took.
    """

    parameters: dict[str, torch.Tensor]
    latents: torch.Tensor
    report: LearningReport

    def __repr__(self) -> str:
        return f"{type(self).__name__}(latents {tuple(self.latents.shape)}, {self.report})"

    def image(self, index: int) -> dict[str, torch.Tensor]:
        """One picture's parameters, (steps, *shape) each, as `MappingNetwork.fill` takes them."""
        return {name: value[index] for name, value in self.parameters.items()}


OnLearnedStep = Callable[[StepReport], None]
