"""DDIM in both directions over one list of levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from semantic_edit.editing.finite import FiniteWatch, at_step
from semantic_edit.editing.guidance import PredictNoise, predict_guided
from semantic_edit.editing.schedule import Schedule


def ddim_step(
    latents: torch.Tensor, noise_pred: torch.Tensor, schedule: Schedule, level: int
) -> torch.Tensor:
    """From `level` to `level - 1`, given the model's output at `level`; tensors of one shape.

    Source: DDIM, arXiv:2010.02502, Eq. 12 with sigma = 0.
    """
    kept, added = schedule.step_factors(level)
    return kept * latents + added * noise_pred


def ddim_inverse_step(
    latents: torch.Tensor, noise_pred: torch.Tensor, schedule: Schedule, level: int
) -> torch.Tensor:
    """From `level - 1` to `level`: what `ddim_step` with the same prediction takes back exactly."""
    kept, added = schedule.step_factors(level)
    return latents / kept - (added / kept) * noise_pred


def invert_latents(
    predict_noise: PredictNoise,
    schedule: Schedule,
    latents: torch.Tensor,
    prompt_embeds: torch.Tensor,
    levels: int,
    negative_prompt_embeds: torch.Tensor | None = None,
    guidance_scale: float = 1.0,
    adjust_prediction: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor] | None = None,
    on_step: Callable[[int, int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Encode clean latents into noise, keeping every level on the way.

    Each step evaluates the model on z_{k-1} at the noisier timestep of the pair, that of level `k`.

    Args:
        predict_noise: The model; see `PredictNoise`.
        latents: Clean latents, (batch, channels, height, width).
        prompt_embeds: (batch, tokens, width); DiffEdit encodes with the empty prompt.
        levels: How many steps to take, at most `schedule.num_inference_steps`.
        negative_prompt_embeds: Same shape, for guidance. Inverting with strong guidance diverges.
        adjust_prediction: `adjust_prediction(noise_pred, latents, level)`, applied to each guided prediction.
        on_step: `on_step(step, timestep, latents)` after each step.

    Returns:
        (levels + 1, batch, channels, height, width) in float32, level 0 first.

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite latents.

    Source: DiffEdit, arXiv:2210.11427, Sec. 3.2, step 2.
    """
    watch = FiniteWatch()
    latents = latents.float()
    kept = latents.new_empty((levels + 1, *latents.shape))
    kept[0] = latents
    for step in range(levels):
        level = step + 1
        timestep = schedule.timestep(level)
        noise_pred = predict_guided(
            predict_noise, latents, timestep, prompt_embeds, negative_prompt_embeds, guidance_scale
        )
        if adjust_prediction is not None:
            noise_pred = adjust_prediction(noise_pred, latents, level)
        latents = ddim_inverse_step(latents, noise_pred, schedule, level)
        watch.see(at_step("the inversion", step, timestep), latents)
        kept[level] = latents
        if on_step is not None:
            on_step(step, timestep, latents)
    watch.check()
    return kept


def decode_latents(
    predict_noise: PredictNoise,
    schedule: Schedule,
    trajectory_latents: torch.Tensor,
    prompt_embeds: torch.Tensor,
    mask: torch.Tensor | None = None,
    negative_prompt_embeds: torch.Tensor | None = None,
    guidance_scale: float = 7.5,
    guidance_rescale: float = 0.0,
    guidance_stops: Sequence[float] | None = None,
    on_step: Callable[[int, int, dict[str, Any]], dict[str, Any]] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> torch.Tensor:
    """Denoise from the noisiest level under a prompt, keeping what lies outside the mask on the trajectory.

    After the step that reaches level `k` the latents are mask * edited + (1 - mask) * z_k, so that the
    background ends on z_0 itself.

    Args:
        predict_noise: The model; see `PredictNoise`.
        trajectory_latents: (levels + 1, batch, channels, height, width), level 0 first.
        prompt_embeds: (batch, tokens, width) of the wanted picture.
        mask: (batch, 1, height, width) in [0, 1], 1 where the edit applies; `None` edits everywhere.
        negative_prompt_embeds: Same shape as `prompt_embeds`, or `None` for no guidance.
        guidance_stops: For each of the batch the fraction of the whole schedule's steps, from the noisy end, that are
            guided; all steps where not given. Where none of the batch is, only the conditional half is evaluated.
        on_step: `on_step(step, timestep, tensors)` after each step, with "latents", "prompt_embeds" and
            "negative_prompt_embeds"; returns those that the next step is to use instead, and under "guidance_scale"
            another scale, if it is to be another.
        should_stop: Asked before each step; if true the latents of the level reached so far are returned.

    Returns:
        Latents of level 0, (batch, channels, height, width) in float32.

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite latents, or after which `on_step` did.

    Source: DiffEdit, arXiv:2210.11427, Sec. 3.2, step 3.
    """
    watch = FiniteWatch()
    levels = trajectory_latents.shape[0] - 1
    latents = trajectory_latents[levels].float()
    scales = _guidance_scales(schedule, levels, guidance_scale, guidance_stops, latents)
    for step, level in enumerate(range(levels, 0, -1)):
        if should_stop is not None and should_stop():
            break
        timestep = schedule.timestep(level)
        noise_pred = predict_guided(
            predict_noise,
            latents,
            timestep,
            prompt_embeds,
            negative_prompt_embeds,
            scales[step],
            guidance_rescale,
        )
        latents = ddim_step(latents, noise_pred, schedule, level)
        if mask is not None:
            # lerp returns the end itself at weights 0 and 1, so an unmasked cell equals z_k in every bit
            latents = torch.lerp(trajectory_latents[level - 1].float(), latents, mask)
        watch.see(at_step("the decoding", step, timestep), latents)
        if on_step is not None:
            tensors = {
                "latents": latents,
                "prompt_embeds": prompt_embeds,
                "negative_prompt_embeds": negative_prompt_embeds,
            }
            changed = on_step(step, timestep, tensors)
            watch.see_returned(changed, step, timestep)
            latents = changed.get("latents", latents)
            prompt_embeds = changed.get("prompt_embeds", prompt_embeds)
            negative_prompt_embeds = changed.get("negative_prompt_embeds", negative_prompt_embeds)
            if "guidance_scale" in changed:
                scales = _guidance_scales(
                    schedule, levels, changed["guidance_scale"], guidance_stops, latents
                )
    watch.see("the callback of the last step", latents)  # which may have written to them
    watch.check()
    return latents


def _guidance_scales(
    schedule: Schedule,
    levels: int,
    guidance_scale: float,
    guidance_stops: Sequence[float] | None,
    latents: torch.Tensor,
) -> list[float | torch.Tensor | None]:
    """For each step the scale, or (batch, 1, 1, 1) of them where some are past their stop, `None` where all are.

    Past its stop an edit has 1, which gives the conditional prediction, as a scale of up to 1 does in all steps.
    """
    if guidance_scale <= 1:
        return [None] * levels
    if guidance_stops is None:
        return [guidance_scale] * levels
    guided = [[schedule.is_before(level, stop) for stop in guidance_stops] for level in range(levels, 0, -1)]
    # all at once: bringing each step's to a GPU would wait for it
    each = torch.tensor([[guidance_scale if one else 1.0 for one in row] for row in guided]).to(latents)
    return [
        None if not any(row) else guidance_scale if all(row) else each[step, :, None, None, None]
        for step, row in enumerate(guided)
    ]
