"""Null-text inversion with Prompt-to-Prompt: learn the unconditional embedding of each step, then swap attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, frozen
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.editing.finite import FiniteWatch, at_step
from semantic_edit.editing.guidance import PredictNoise, classifier_free_guidance
from semantic_edit.editing.inversion import ddim_step, invert_latents
from semantic_edit.editing.schedule import Schedule
from semantic_edit.evaluation.method import EditMethod, embeds_of, floats_of, latents_of, picture_of
from semantic_edit.evaluation.prompt_to_prompt import decode_swapped
from semantic_edit.mapping_networks.updates import ActivePictures
from semantic_edit.pipelines.restyling import RestyleSettings
from semantic_edit.pipelines.stages import noise_predictor

LEARNING_RATE, RATE_DECAY = 1e-2, 0.01
STOP_BELOW, STOP_GROWTH = 1e-5, 2e-5


@dataclass(frozen=True, eq=False)
class NullText:
    """What is learned of one picture.

    latents: z at the noisiest level, (1, channels, height, width).
    embeds: The unconditional embedding of each step from the noisiest on, (steps, tokens, width) in float32.
    errors: Of each step, the squared error of its latents before and after learning.
    backward_evaluations: Of the denoiser.
    """

    prompt: str
    latents: torch.Tensor
    embeds: torch.Tensor
    errors: tuple[tuple[float, float], ...]
    backward_evaluations: int


@dataclass(frozen=True)
class NullTextInversion(EditMethod):
    """Prompt-to-Prompt on a null-text inversion; the other defaults are those of the published example.

    tau_c, tau_s: Fractions of the steps, from the noisy end, with the source's cross- and self-attention maps.
    tau_u: The latter in the unconditional rows; 0 is Prompt-to-Prompt, more is P2Plus.
    inner_steps: Updates a step, at most.

    Source: null-text inversion, arXiv:2211.09794, Sec. 3.2; Prompt-to-Prompt, arXiv:2208.01626.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps", "guidance_scale", "inner_steps")

    tau_c: float = 0.8
    tau_s: float = 0.5
    tau_u: float = 0.0
    inner_steps: int = 10

    def prepare(
        self, pipe: Any, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[NullText]:
        """Learn the embeddings of all pictures side by side, each as if alone but for rounding."""
        with lock_of(pipe.unet), BorrowedNetwork(pipe.unet) as unet, frozen(unet):
            return _learn(
                noise_predictor(pipe, borrowed=unet),
                self.schedule(pipe),
                latents_of(pipe, images),
                list(source_prompts),
                embeds_of(pipe, source_prompts).float(),
                embeds_of(pipe, [""]).float(),
                self,
                pipe.unet.dtype,
            )

    def edit(self, pipe: Any, prepared: NullText, prompt: str, seed: int = 0) -> Image.Image:
        """One edit; nothing is drawn."""
        return picture_of(pipe, self.decode(pipe, prepared, prompt)[1:])

    def reconstruct(self, pipe: Any, prepared: NullText) -> np.ndarray:
        """The source's row."""
        return floats_of(pipe, self.decode(pipe, prepared, prepared.prompt))

    def backward_evaluations(self, prepared: NullText) -> int:
        """Of the denoiser, for one picture."""
        return prepared.backward_evaluations

    def decode(self, pipe: Any, prepared: NullText, prompt: str) -> torch.Tensor:
        """The clean latents of the source and of the edit, (2, channels, height, width)."""
        return decode_swapped(
            pipe,
            self.schedule(pipe),
            prepared.latents,
            (prepared.prompt, prompt),
            prepared.embeds,
            RestyleSettings(tau_c=self.tau_c, tau_s=self.tau_s, tau_u=self.tau_u),
            self.guidance_scale,
        )


@torch.no_grad()
def _learn(
    predict_noise: PredictNoise,
    schedule: Schedule,
    clean: torch.Tensor,
    prompts: list[str],
    text: torch.Tensor,
    negative: torch.Tensor,
    settings: NullTextInversion,
    dtype: torch.dtype,
) -> list[NullText]:
    """clean: (pictures, channels, height, width); text: (pictures, tokens, width); negative: (1, tokens, width)."""
    steps, watch = schedule.num_inference_steps, FiniteWatch()
    walk = invert_latents(predict_noise, schedule, clean, text.to(dtype), steps)
    latents, embeds = walk[-1], negative.expand_as(text)
    learned, before, after, updates = [], [], [], torch.zeros(len(prompts), dtype=torch.long)
    for step, level in enumerate(range(steps, 0, -1)):
        task = _Step(predict_noise, schedule, level, latents, walk[level - 1], text.to(dtype), settings)
        embeds, first_error, taken = task.learn(step, embeds)
        latents, error = task.outcome(embeds, torch.arange(len(prompts)))
        watch.see(at_step("the learning", step, schedule.timestep(level)), latents)
        learned.append(embeds)
        before.append(first_error)
        after.append(error)
        updates += taken
    watch.check()
    errors = torch.stack([torch.stack(before), torch.stack(after)], dim=-1)  # (steps, pictures, 2)
    return [
        NullText(
            prompt=prompt,
            latents=walk[-1, row : row + 1],
            embeds=torch.stack([one[row] for one in learned]),
            errors=tuple((first, last) for first, last in errors[:, row].tolist()),
            backward_evaluations=int(updates[row]),
        )
        for row, prompt in enumerate(prompts)
    ]


class _Step:
    """One step of the learning: where it starts, where it should lead, and the conditional prediction, made once."""

    def __init__(
        self,
        predict_noise: PredictNoise,
        schedule: Schedule,
        level: int,
        latents: torch.Tensor,
        goal: torch.Tensor,
        text: torch.Tensor,
        settings: NullTextInversion,
    ) -> None:
        self.predict_noise, self.schedule, self.level = predict_noise, schedule, level
        self.latents, self.goal, self.settings, self.dtype = latents, goal, settings, text.dtype
        self.conditional = predict_noise(latents, schedule.timestep(level), text)

    def outcome(self, embeds: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the step leads with `embeds`, those of the pictures `rows`, and its squared error for each."""
        latents, timestep = self.latents[rows], self.schedule.timestep(self.level)
        unconditional = self.predict_noise(latents, timestep, embeds.to(self.dtype))
        guided = classifier_free_guidance(unconditional, self.conditional[rows], self.settings.guidance_scale)
        reached = ddim_step(latents, guided, self.schedule, self.level)
        return reached, (reached - self.goal[rows]).square().flatten(1).mean(1)

    @torch.enable_grad()
    def learn(self, step: int, embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The learned embeddings, the errors at the start, and the number of updates, for each picture."""
        active = ActivePictures({"embeds": embeds}, LEARNING_RATE * max(1 - RATE_DECAY * step, 0.01))
        learned, first_error = embeds.clone(), torch.zeros(len(embeds), device=embeds.device)
        updates = torch.zeros(len(embeds), dtype=torch.long)
        for update in range(self.settings.inner_steps):
            rows = active.rows
            _, errors = self.outcome(active.parameters["embeds"], rows)
            if update == 0:
                first_error = errors.detach()
            active.update(torch.autograd.grad(errors.sum(), list(active.parameters.values())))
            learned[rows] = active.parameters["embeds"].detach()
            updates[rows.cpu()] += 1
            active.keep(errors.detach() >= STOP_BELOW + STOP_GROWTH * step)
            if not len(active.rows):
                break
        return learned, first_error, updates
