"""Edit-friendly DDPM inversion: find the noise that takes a picture through DDPM's steps, and decode with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import FiniteWatch, PromptPair, Schedule, at_step, ddim_step, predicting
from semantic_edit.evaluation.method import (
    Edited,
    EditMethod,
    check_noise,
    edited_from,
    embeds_of,
    floats_of,
    latents_of,
    preparing_generator,
)
from semantic_edit.pipelines import levels_for


@dataclass(frozen=True, eq=False)
class NoiseMaps:
    """A picture's way through DDPM's steps.

    latents: (levels + 1, 1, channels, height, width); level 0 is clean, the others have independent noise.
    added: (levels, 1, channels, height, width): what the step that leaves each level from 1 on adds to its mean.
    prompt: What the picture shows.
    """

    latents: torch.Tensor
    added: torch.Tensor
    prompt: str


@dataclass(frozen=True)
class EditFriendly(EditMethod[NoiseMaps]):
    """For models that predict noise. The defaults are the paper's.

    The noise of the levels is the same for every picture, so that all settings share one inversion. As in the paper's
    algorithm, and unlike in the published code, the last step adds its noise too, so that the picture comes back
    exactly whatever the scheduler's last level is.

    source_guidance: The guidance scale under the source prompt.
    strength: The fraction of the steps that are decoded, in (0, 1]; higher values change more. The paper leaves out
        the first 36 of 100.

    Source: edit-friendly DDPM inversion, arXiv:2304.06140, Alg. 1.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps", "source_guidance")

    num_inference_steps: int = 100
    guidance_scale: float = 15.0
    source_guidance: float = 3.5
    strength: float = 0.64

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the model is a rectified flow."""
        super().check(pipe)
        check_noise(denoiser_of(pipe), "Edit-friendly DDPM inversion")

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the strength covers less than one step."""
        levels_for(self.schedule(denoiser_of(pipe)), "strength", self.strength)

    @torch.no_grad()
    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[NoiseMaps]:
        """Invert the pictures."""
        denoiser, watch = denoiser_of(pipe), FiniteWatch()
        clean = latents_of(denoiser, images)
        schedule = self.schedule(denoiser, clean)
        steps = schedule.num_inference_steps
        given = embeds_of(denoiser, [*source_prompts, ""])
        told = PromptPair(given.rows(slice(-1)), given.rows(slice(-1, None)).expand(len(clean)))
        predict = predicting(denoiser, schedule, told, self.source_guidance)
        shape = (steps, 1, *clean.shape[1:])
        noise = randn_tensor(shape, generator=preparing_generator(), device=clean.device)
        noised = [schedule.add_noise(clean, noise[level - 1], level) for level in range(1, steps + 1)]
        walk = torch.stack([clean, *noised])
        added = torch.empty_like(walk[1:])
        for step, level in enumerate(range(steps, 0, -1)):
            mean = ddpm_mean(walk[level], predict(walk[level], level), schedule, level)
            added[level - 1] = walk[level - 1] - mean
            walk[level - 1] = mean + added[level - 1]  # what decoding will reach, rounding included
            watch.see(at_step("the inversion", step, schedule.timestep(level)), mean)
        watch.check()
        rows = zip(walk.split(1, dim=1), added.split(1, dim=1), source_prompts, strict=True)
        return [NoiseMaps(*row) for row in rows]

    def edited(self, pipe: DiffusionPipeline, prepared: NoiseMaps, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; the seed is not used."""
        return edited_from(denoiser_of(pipe), self.decode(pipe, prepared, prompt))

    def reconstruct(self, pipe: DiffusionPipeline, prepared: NoiseMaps) -> np.ndarray:
        """How the source prompt reproduces the picture, at its own guidance."""
        own = replace(self, guidance_scale=self.source_guidance)
        return floats_of(denoiser_of(pipe), own.decode(pipe, prepared, prepared.prompt))

    @torch.no_grad()
    def decode(self, pipe: DiffusionPipeline, prepared: NoiseMaps, prompt: str) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width)."""
        denoiser, watch = denoiser_of(pipe), FiniteWatch()
        schedule = self.schedule(denoiser, prepared.latents)
        levels = levels_for(schedule, "strength", self.strength)
        predict = predicting(denoiser, schedule, self.prompts(denoiser, prompt), self.guidance_scale)
        latents = prepared.latents[levels]
        for step, level in enumerate(range(levels, 0, -1)):
            mean = ddpm_mean(latents, predict(latents, level), schedule, level)
            latents = mean + prepared.added[level - 1]
            watch.see(at_step("the decoding", step, schedule.timestep(level)), latents)
        watch.check()
        return latents


def ddpm_mean(
    latents: torch.Tensor, noise_pred: torch.Tensor, schedule: Schedule, level: int
) -> torch.Tensor:
    """Where DDPM's step from `level` to `level - 1` leads before it adds noise.

    Args:
        latents: At `level`.
        noise_pred: The model's output at `level`, same shape.
        schedule: Of a variance-preserving process.
        level: From 1 on.

    Source: DDIM, arXiv:2010.02502, Eq. 12 with the sigma of Eq. 16 at eta = 1, which leaves `kept` of the noise.
    """
    signal, noise = schedule.signal[level], schedule.noise[level]
    signal_below, noise_below = schedule.signal[level - 1], schedule.noise[level - 1]
    kept = noise_below**2 * signal / (signal_below * noise)
    predicted = schedule.noise_in(latents, noise_pred, level)
    return ddim_step(latents, noise_pred, schedule, level) + (kept - noise_below) * predicted
