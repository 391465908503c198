"""DDIM in both directions over one list of levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from semantic_edit.editing.finite import FiniteWatch, at_step
from semantic_edit.editing.guidance import Guidance, Predictor, PromptPair, predict_guided
from semantic_edit.editing.schedule import Schedule

PredictAt: TypeAlias = Callable[[torch.Tensor, int], torch.Tensor]
"""`predict(latents, level)`: the prediction for a step between that level and the one below."""


def ddim_step(
    latents: torch.Tensor, noise_pred: torch.Tensor, schedule: Schedule, level: int
) -> torch.Tensor:
    """Step from `level` to `level - 1`.

    Args:
        latents: At `level`.
        noise_pred: The model's output at `level`, same shape.
        schedule: The schedule.
        level: From 1 on.

    Source: DDIM, arXiv:2010.02502, Eq. 12 with sigma = 0.
    """
    kept, added = schedule.step_factors(level)
    return kept * latents + added * noise_pred


def ddim_inverse_step(
    latents: torch.Tensor, noise_pred: torch.Tensor, schedule: Schedule, level: int
) -> torch.Tensor:
    """Step from `level - 1` to `level`: the exact inverse of `ddim_step` with the same prediction."""
    kept, added = schedule.step_factors(level)
    return latents / kept - (added / kept) * noise_pred


def invert_latents(
    predict: PredictAt,
    schedule: Schedule,
    latents: torch.Tensor,
    levels: int,
    on_step: Callable[[int, float, torch.Tensor], None] | None = None,
    stride: int = 1,
) -> torch.Tensor:
    """Encode clean latents into noise, keeping every level on the way.

    Each step evaluates the model at the noisier timestep of the pair, which is that of level `k`: on z_{k-1}, or, on a
    rectified flow's straighter paths, on a first guess of z_k by the previous step's prediction, a predictor-corrector
    step at the same cost. With a stride above 1, the steps between two evaluations take the prediction to which the
    last two extrapolate, as a linear multistep method of second order does.

    Args:
        predict: The model with its conditioning; see [`predicting`]. DiffEdit uses the empty prompt.
        schedule: The schedule.
        latents: Clean latents, (batch, channels, height, width).
        levels: Number of steps to take, at most `schedule.num_inference_steps`.
        on_step: `on_step(step, timestep, latents)`, called after each step.
        stride: Number of steps for each evaluation of the model.

    Returns:
        (levels + 1, batch, channels, height, width) in float32, level 0 first.

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite latents.

    Source: DiffEdit, arXiv:2210.11427, Sec. 3.2, step 2; with a stride, the two-step method of Adams and Bashforth.
    """
    watch = FiniteWatch()
    latents = latents.float()
    kept = latents.new_empty((levels + 1, *latents.shape))
    kept[0] = latents
    before: torch.Tensor | None = None
    last: torch.Tensor | None = None
    for step in range(levels):
        level = step + 1
        timestep = schedule.timestep(level)
        since = step % stride
        if since == 0:
            guessed = latents
            if schedule.is_flow and last is not None:
                guessed = ddim_inverse_step(latents, last, schedule, level)
            before, last = last, predict(guessed, level)
        assert last is not None  # evaluated at the first step
        prediction = last if before is None or since == 0 else last + since / stride * (last - before)
        latents = ddim_inverse_step(latents, prediction, schedule, level)
        watch.see(at_step("the inversion", step, timestep), latents)
        kept[level] = latents
        if on_step is not None:
            on_step(step, timestep, latents)
    watch.check()
    return kept


def predicting(
    predictor: Predictor, schedule: Schedule, prompts: PromptPair, guidance_scale: float = 1.0
) -> PredictAt:
    """A model with its conditioning, as a function of latents and a level.

    Args:
        predictor: The model.
        schedule: The schedule.
        prompts: One for each sample.
        guidance_scale: Strong guidance makes an inversion diverge.
    """

    def predict(latents: torch.Tensor, level: int) -> torch.Tensor:
        return predict_guided(predictor, latents, schedule.timestep(level), prompts, guidance_scale)

    return predict


@dataclass(frozen=True, eq=False)
class Walk:
    """The inverted latents that a decoding follows back, and where it may leave them.

    latents: (levels + 1, batch, channels, height, width), level 0 first.
    mask: (batch, 1, height, width) in [0, 1], 1 where an edit applies; `None` edits everywhere.
    """

    latents: torch.Tensor
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class StepHooks:
    """What happens around the steps of a decoding.

    after: `after(step, timestep, tensors)`, called after each step with "latents" and the prompts' tensors under the
        names of [`PromptPair.tensors`]; returns those that the next steps are to use instead and, if it is to change, a
        new scale as "guidance_scale".
    should_stop: Called before each step; if it returns true, decoding stops and returns the latents of the level
        reached.
    """

    after: Callable[[int, float, dict[str, Any]], dict[str, Any]] | None = None
    should_stop: Callable[[], bool] | None = None


def decode_latents(
    predictor: Predictor,
    schedule: Schedule,
    walk: Walk,
    prompts: PromptPair,
    guidance: Guidance | None = None,
    hooks: StepHooks | None = None,
) -> torch.Tensor:
    """Denoise from the noisiest level under a prompt, keeping everything outside the mask on the trajectory.

    After the step that reaches level `k` the latents are mask * edited + (1 - mask) * z_k, so that the background ends
    on z_0 itself.

    Args:
        predictor: The model.
        schedule: The schedule.
        walk: The inverted latents, and the mask.
        prompts: One for each sample.
        guidance: See [`Guidance`]; it has no effect if there is nothing to guide away from.
        hooks: Called around the steps.

    Returns:
        Latents of level 0, (batch, channels, height, width) in float32.

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite latents, or after which a hook returned such
            values.

    Source: DiffEdit, arXiv:2210.11427, Sec. 3.2, step 3.
    """
    guidance, hooks, watch = guidance or Guidance(), hooks or StepHooks(), FiniteWatch()
    levels = walk.latents.shape[0] - 1
    latents = walk.latents[levels].float()
    scales = _guidance_scales(schedule, levels, guidance, latents)
    for step, level in enumerate(range(levels, 0, -1)):
        if hooks.should_stop is not None and hooks.should_stop():
            break
        timestep = schedule.timestep(level)
        noise_pred = predict_guided(predictor, latents, timestep, prompts, scales[step], guidance.rescale)
        latents = ddim_step(latents, noise_pred, schedule, level)
        if walk.mask is not None:
            # at weights 0 and 1 lerp returns its arguments exactly, so an unmasked cell equals z_k in every bit
            latents = torch.lerp(walk.latents[level - 1].float(), latents, walk.mask)
        watch.see(at_step("the decoding", step, timestep), latents)
        if hooks.after is not None:
            changed = hooks.after(step, timestep, {"latents": latents, **prompts.tensors()})
            watch.see_returned(changed, step, timestep)
            latents = changed.get("latents", latents)
            prompts = prompts.changed(changed)
            if "guidance_scale" in changed:
                other = replace(guidance, scale=changed["guidance_scale"])
                scales = _guidance_scales(schedule, levels, other, latents)
    watch.see("the callback of the last step", latents)  # it may have written to them
    watch.check()
    return latents


def _guidance_scales(
    schedule: Schedule, levels: int, guidance: Guidance, latents: torch.Tensor
) -> list[float | torch.Tensor | None]:
    """For each step, the scale, or (batch, 1, 1, 1) scales if they differ; `None` if nothing is guided.

    After its stop, an edit has scale 1, which gives the conditional prediction, as does a scale of up to 1 in all
    steps.
    """
    batch, scale = len(latents), guidance.scale
    scales = list(scale) if isinstance(scale, Sequence) else [scale] * batch
    stops = [1.0] * batch if guidance.stops is None else guidance.stops
    rows = [
        [
            max(1.0, one) if schedule.is_before(level, stop) else 1.0
            for one, stop in zip(scales, stops, strict=True)
        ]
        for level in range(levels, 0, -1)
    ]
    # all at once: moving those of each step to a GPU separately would wait for it every time
    each = torch.tensor(rows).to(latents)
    return [
        None if max(row) == 1 else row[0] if len(set(row)) == 1 else each[step, :, None, None, None]
        for step, row in enumerate(rows)
    ]
