"""What mapping networks are trained on: where a step should lead, and the loss of where it does lead."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from semantic_edit.mapping_networks.mapping import (
    initial_parameters,
    mapping_forward,
    parameter_shapes,
    value_embeds_of,
)
from semantic_edit.mapping_networks.problem import LearningDenoiser, LearningInputs, LearningOptions
from semantic_edit.mapping_networks.settings import LearningSettings


@dataclass(frozen=True, eq=False)
class Goal:
    """What stays fixed during a step, for all pictures.

    step: 0-based index, 0 the noisiest; the step leads from `level` to the level below.
    latents: Where the step starts, (pictures, channels, height, width): where the steps before have led.
    target: Where it should end: the inversion's latents.
    unconditional: The unconditional prediction at `latents`.
    maps: What the attention maps should be, (pictures, ...) each.
    """

    step: int
    level: int
    latents: torch.Tensor
    target: torch.Tensor
    unconditional: torch.Tensor
    maps: list[torch.Tensor]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of evaluating some pictures' networks once.

    latents: Where the step leads, (evaluated, channels, height, width).
    latent_error, attention_error, loss: (evaluated,).
    """

    latents: torch.Tensor
    latent_error: torch.Tensor
    attention_error: torch.Tensor
    loss: torch.Tensor

    @property
    def errors(self) -> torch.Tensor:
        """The errors of the latents and of the attention maps, (2, evaluated)."""
        return torch.stack([self.latent_error, self.attention_error]).detach()

    def of(self, which: torch.Tensor) -> Outcome:
        """The outcome for the pictures where `which`, (evaluated,) booleans, is true; detached from the graph."""
        tensors = (self.latents, self.latent_error, self.attention_error, self.loss)
        return Outcome(*(tensor.detach()[which] for tensor in tensors))


@dataclass(frozen=True, eq=False)
class Objective:
    """What is learned; `inputs` have the precision in which it is learned."""

    denoiser: LearningDenoiser
    inputs: LearningInputs
    options: LearningOptions

    @property
    def settings(self) -> LearningSettings:
        """How long and how fast the networks learn."""
        return self.options.settings

    def start(self) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The parameters, (pictures, *shape), and latents that step 0 starts from; all networks start equal."""
        shapes = parameter_shapes(
            self.options.variant, *self.inputs.text_embeds.shape[1:], *self.inputs.image_tokens.shape[1:]
        )
        silent = self.inputs.negative_embeds is not None
        drawn = initial_parameters(shapes, self.settings.seed, silent)
        images = len(self.inputs.image_tokens)
        parameters = {
            name: value.to(self.inputs.image_tokens).expand(images, *value.shape)
            for name, value in drawn.items()
        }
        return parameters, self.inputs.trajectory[-1]

    @torch.no_grad()
    def goal(self, step: int, latents: torch.Tensor) -> Goal:
        """Evaluate the unconditional branch, and fetch what the step is measured against."""
        level = len(self.inputs.trajectory) - 1 - step
        maps = self.denoiser.source_maps(level) if self.settings.attention_weight else []
        return Goal(
            step=step,
            level=level,
            latents=latents,
            target=self.inputs.trajectory[level - 1],
            unconditional=self.denoiser.evaluate_unconditional(latents, level).to(latents.dtype),
            maps=[stored.to(latents) for stored in maps],
        )

    def outcome(self, goal: Goal, parameters: dict[str, torch.Tensor], rows: torch.Tensor) -> Outcome:
        """Evaluate the networks of some pictures.

        Args:
            goal: The step's.
            parameters: The networks', (rows, *shape) each.
            rows: Indices of these pictures in the batch, (rows,).

        Raises:
            ValueError: If the denoiser's maps do not match those of the inversion.
            FloatingPointError: Naming the pictures whose loss is not finite.

        Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.2: the reconstruction and the attention loss.
        """
        mapped = mapping_forward(parameters, self.inputs.image_tokens[rows])
        away = self.inputs.negative_embeds
        values = value_embeds_of(
            self.options.variant,
            mapped,
            self.inputs.text_embeds[rows],
            None if away is None else away[rows],
            self.options.guidance_scale,
        )
        latents, unconditional = goal.latents[rows], goal.unconditional[rows]
        conditional, maps = self.denoiser.evaluate(latents, goal.level, values, rows)
        guided = unconditional + self.options.guidance_scale * (conditional.to(latents.dtype) - unconditional)
        reached = self.denoiser.step_back(latents, guided, goal.level)
        latent_error = _error_by_image(reached, goal.target[rows])
        attention_error = self._attention_error(goal, maps, rows, torch.zeros_like(latent_error))
        settings = self.settings
        loss = settings.latent_weight * latent_error + settings.attention_weight * attention_error
        if not torch.isfinite(loss).all():
            listed = ", ".join(str(row) for row in rows[~torch.isfinite(loss)].tolist())
            raise FloatingPointError(
                f"The learning's loss at step {goal.step} is NaN or infinite for picture {listed}. Lower "
                "`learning_rate`, or run the model in float32 or bfloat16."
            )
        return Outcome(reached, latent_error, attention_error, loss)

    def gradients(
        self, goal: Goal, loss: torch.Tensor, parameters: dict[str, torch.Tensor]
    ) -> list[torch.Tensor]:
        """The gradients of the summed losses, in the order of `parameters`; no other tensor receives one.

        A loss is a mean over a picture's latents. For the backward pass it is scaled up to about their sum, by a power
        of two: in float32 that changes no bits, and with a float16 model it keeps gradients from vanishing.

        Raises:
            ValueError: If the loss does not depend on the parameters.
            FloatingPointError: If a gradient is not finite.
        """
        if not loss.requires_grad:
            raise ValueError(
                "`evaluate` must be differentiable in `value_embeds`, but its result does not depend on them."
            )
        scale = 2.0 ** round(math.log2(self.inputs.trajectory[0, 0].numel()))
        scaled = torch.autograd.grad(loss.sum() * scale, list(parameters.values()))
        gradients = [gradient / scale for gradient in scaled]
        if not torch.stack([torch.isfinite(gradient).all() for gradient in gradients]).all():
            raise FloatingPointError(
                f"A gradient of the learning at step {goal.step} is NaN or infinite. Run the model in float32 or "
                "bfloat16."
            )
        return gradients

    def _attention_error(
        self, goal: Goal, maps: list[torch.Tensor], rows: torch.Tensor, total: torch.Tensor
    ) -> torch.Tensor:
        if not self.settings.attention_weight:
            return total
        got = [tuple(layer.shape) for layer in maps]
        expected = [(len(rows), *stored.shape[1:]) for stored in goal.maps]
        if got != expected:
            raise ValueError(
                f"`evaluate` returned attention maps of shapes {got} at level {goal.level}, where `source_maps` has "
                f"{expected}."
            )
        for layer, stored in zip(maps, goal.maps, strict=True):
            total = total + _error_by_image(layer.to(total.dtype), stored[rows])
        return total


def _error_by_image(values: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    return (values - goal).square().flatten(1).mean(dim=1)
