"""Adam for several pictures side by side, any of which may drop out."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class ActiveImages:
    """The pictures that are still learning at a step: their parameters and a new Adam.

    Every operation acts on each picture separately, so apart from rounding no picture's numbers depend on another's.

    Args:
        parameters: (pictures, *shape) for each name; copied.
        learning_rate, betas: Adam's.

    Attributes:
        rows: Indices in the batch of the pictures that are still active, (active,).
        parameters: Their parameters, (active, *shape) each, as leaves of the graph.
    """

    def __init__(
        self,
        parameters: dict[str, torch.Tensor],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        first = next(iter(parameters.values()))
        self.rows = torch.arange(len(first), device=first.device)
        self.parameters = {
            name: value.detach().clone().requires_grad_() for name, value in parameters.items()
        }
        self.rate, self.betas = learning_rate, betas
        self.optimizer = self._adam()

    def _adam(self) -> torch.optim.Adam:
        return torch.optim.Adam(list(self.parameters.values()), lr=self.rate, betas=self.betas)

    def update(self, gradients: Iterable[torch.Tensor]) -> None:
        """Take one step of Adam; `gradients` are in the order of `parameters`."""
        for value, gradient in zip(self.parameters.values(), gradients, strict=True):
            value.grad = gradient
        self.optimizer.step()

    def keep(self, stays: torch.Tensor) -> None:
        """Drop the pictures where `stays`, (active,) booleans, is false; the others continue undisturbed."""
        if stays.all():
            return
        before, states = list(self.parameters.values()), self.optimizer.state
        self.rows = self.rows[stays]
        self.parameters = {
            name: value.detach()[stays].requires_grad_() for name, value in self.parameters.items()
        }
        self.optimizer = self._adam()
        for old, new in zip(before, self.parameters.values(), strict=True):
            self.optimizer.state[new] = {
                name: value if value.ndim == 0 else value[stays] for name, value in states[old].items()
            }
