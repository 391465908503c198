"""One step of the learning, for all pictures side by side."""

from __future__ import annotations

import time

import torch

from semantic_edit.mapping_networks.checkpoint import FinishedStep
from semantic_edit.mapping_networks.combination import Candidate, best_of, combine
from semantic_edit.mapping_networks.objective import Objective, Outcome
from semantic_edit.mapping_networks.report import StepReport
from semantic_edit.mapping_networks.updates import ActiveImages


def learn_step(
    objective: Objective, step: int, parameters: dict[str, torch.Tensor], latents: torch.Tensor
) -> FinishedStep:
    """Learn one step's networks.

    Args:
        step: 0-based index, 0 the noisiest.
        parameters: What the networks start from, (pictures, *shape) for each name.
        latents: Where the steps before have led, (pictures, channels, height, width).

    Returns:
        The learned networks, the latents that they lead to, and a report.

    Raises:
        ValueError: If the maps do not match those of the inversion, or the prediction is not differentiable.
        FloatingPointError: If a loss or a gradient is not finite.
    """
    with torch.enable_grad():
        return _LearningStep(objective, step, parameters, latents).learn()


class _LearningStep:
    """A step while it is being learned.

    learned: The parameters of the pictures that have stopped; for the others, those that they started from.
    settled: Which pictures' parameters are final and evaluated, (pictures,); `latents` and `after` hold their results.
    before, after: The errors of the latents and of the attention maps, (2, pictures).
    trail: With `combine`, for each update the pictures that it concerned, their networks before it, and the outcome.
    """

    def __init__(
        self, objective: Objective, step: int, parameters: dict[str, torch.Tensor], latents: torch.Tensor
    ) -> None:
        self.started = time.perf_counter()
        self.objective, self.settings, self.step = objective, objective.settings, step
        self.goal = objective.goal(step, latents)
        betas = (self.settings.adam_beta1, self.settings.adam_beta2)
        self.active = ActiveImages(parameters, self.settings.learning_rate_at(step), betas)
        self.learned = {name: value.detach().clone() for name, value in parameters.items()}
        images = len(latents)
        self.latents = torch.empty_like(latents)
        self.settled = torch.zeros(images, dtype=torch.bool, device=latents.device)
        self.before = latents.new_zeros(2, images)
        self.after = latents.new_zeros(2, images)
        self.trail: list[tuple[torch.Tensor, dict[str, torch.Tensor], Outcome]] = []
        self.updates = [0] * images
        self.forward_evaluations = [1] * images  # the unconditional one

    def learn(self) -> FinishedStep:
        steps = len(self.objective.inputs.trajectory) - 1
        for update in range(self.settings.updates_at(self.step, steps)):
            outcome = self._evaluate(self.active.parameters, self.active.rows)
            if update == 0:
                self.before = outcome.errors
            if self.settings.combine:
                networks = {name: value.detach().clone() for name, value in self.active.parameters.items()}
                everyone = torch.ones_like(self.active.rows, dtype=torch.bool)
                self.trail.append((self.active.rows, networks, outcome.of(everyone)))
            stops = getattr(outcome, self.settings.stop_on) < self.settings.stop_below_at(self.step)
            if self.settings.stop_on == "latent_error":
                self._settle(outcome, self.active.rows, stops)
                self._update(outcome, ~stops)
            else:
                self._update(outcome, torch.ones_like(stops))
                self._leave(stops)
            if not len(self.active.rows):
                break
        self._leave(torch.ones_like(self.active.rows, dtype=torch.bool))
        self._evaluate_unsettled()
        if not any(self.updates):
            self.before = self.after
        return FinishedStep(self.learned, self.latents, self._report())

    def _evaluate(self, parameters: dict[str, torch.Tensor], rows: torch.Tensor) -> Outcome:
        for row in rows.tolist():
            self.forward_evaluations[row] += 1
        return self.objective.outcome(self.goal, parameters, rows)

    def _update(self, outcome: Outcome, which: torch.Tensor) -> None:
        """Update the active pictures where `which`, (active,) booleans, is true; the others leave as they are."""
        if not which.any():
            return self._leave(~which)
        gradients = self.objective.gradients(self.goal, outcome.loss[which], self.active.parameters)
        self._leave(~which)
        updated = which.nonzero().flatten()  # once: indexing by booleans waits for the GPU each time
        self.active.update(gradient[updated] for gradient in gradients)
        for row in self.active.rows.tolist():
            self.updates[row] += 1

    def _leave(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        leaving = which.nonzero().flatten()
        rows = self.active.rows[leaving]
        for name, value in self.active.parameters.items():
            self.learned[name][rows] = value.detach()[leaving]
        self.active.keep(~which)

    def _settle(self, outcome: Outcome, rows: torch.Tensor, which: torch.Tensor) -> None:
        if not which.any():
            return
        chosen, outcome = rows[which], outcome.of(which)
        self.settled[chosen] = True
        self.latents[chosen], self.after[:, chosen] = outcome.latents, outcome.errors

    @torch.no_grad()
    def _evaluate_unsettled(self) -> None:
        rows = (~self.settled).nonzero().flatten()
        if not len(rows):
            return
        networks = {name: value[rows] for name, value in self.learned.items()}
        outcome = self._evaluate(networks, rows)
        if self.trail:
            networks, outcome = self._combined(rows, (networks, outcome))
            for name, value in networks.items():
                self.learned[name][rows] = value
        self._settle(outcome, rows, torch.ones_like(rows, dtype=torch.bool))

    def _combined(self, rows: torch.Tensor, last: Candidate) -> Candidate:
        candidates: list[Candidate] = []
        for present, networks, outcome in self.trail:
            which = torch.isin(present, rows)  # the others have settled since
            candidates.append(({name: value[which] for name, value in networks.items()}, outcome.of(which)))
        candidates.append(last)
        mixed = combine(candidates, self.goal.target[rows])
        return best_of([*candidates, (mixed, self._evaluate(mixed, rows))])

    def _report(self) -> StepReport:
        (latent_before, attention_before), (latent_after, attention_after) = (
            [tuple(row) for row in errors.tolist()] for errors in (self.before, self.after)
        )
        return StepReport(
            step=self.step,
            level=self.goal.level,
            latent_before=latent_before,
            latent_after=latent_after,
            attention_before=attention_before,
            attention_after=attention_after,
            updates=tuple(self.updates),
            forward_evaluations=tuple(self.forward_evaluations),
            seconds=time.perf_counter() - self.started,
        )
