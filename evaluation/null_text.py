"""Null-text inversion with Prompt-to-Prompt: learn the unconditional embedding of each step, then swap attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.attention_processors import BorrowedNetwork, frozen, lock_of
from semantic_edit.denoisers import UNetDenoiser, unet_denoiser_of
from semantic_edit.editing import (
    Conditioning,
    FiniteWatch,
    PromptPair,
    Schedule,
    at_step,
    ddim_step,
    invert_latents,
    predicting,
)
from semantic_edit.evaluation.method import (
    Edited,
    EditMethod,
    edited_from,
    embeds_of,
    floats_of,
    latents_of,
)
from semantic_edit.evaluation.prompt_to_prompt import SideBySide, decoded_side_by_side
from semantic_edit.mapping_networks import ActiveImages
from semantic_edit.pipelines import RestyleSettings

LEARNING_RATE, RATE_DECAY = 1e-2, 0.01
STOP_BELOW, STOP_GROWTH = 1e-5, 2e-5


@dataclass(frozen=True, eq=False)
class NullText:
    """What is learned of one picture.

    latents: z at the noisiest level, (1, channels, height, width).
    embeds: The unconditional embedding of each step from the noisiest on, (steps, tokens, width) in float32.
    errors: For each step, the squared error of its latents before and after learning.
    backward_evaluations: Of the denoiser.
    """

    prompt: str
    latents: torch.Tensor
    embeds: torch.Tensor
    errors: tuple[tuple[float, float], ...]
    backward_evaluations: int


@dataclass(frozen=True)
class NullTextInversion(EditMethod[NullText]):
    """Prompt-to-Prompt on a null-text inversion; the other defaults are those of the published example.

    tau_c, tau_s: Fractions of the steps, counted from the noisy end, with the source's cross- and self-attention maps.
    tau_u: The latter in the unconditional rows; 0 is Prompt-to-Prompt, higher values are P2Plus.
    inner_steps: Maximum number of updates per step.

    Source: null-text inversion, arXiv:2211.09794, Sec. 3.2; Prompt-to-Prompt, arXiv:2208.01626.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps", "guidance_scale", "inner_steps")

    tau_c: float = 0.8
    tau_s: float = 0.5
    tau_u: float = 0.0
    inner_steps: int = 10

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the model has no UNet."""
        unet_denoiser_of(pipe).check()

    @torch.no_grad()
    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[NullText]:
        """Learn the embeddings of all pictures side by side; apart from rounding, each as if it were alone."""
        denoiser = unet_denoiser_of(pipe)
        with lock_of(denoiser.unet), BorrowedNetwork(denoiser.unet) as unet, frozen(unet):
            lesson = _Lesson(
                denoiser.through(unet),
                self.schedule(denoiser),
                embeds_of(denoiser, source_prompts),
                embeds_of(denoiser, [""]).expand(len(source_prompts)),
                self,
            )
            return lesson.learn(latents_of(denoiser, images), source_prompts)

    def edited(self, pipe: DiffusionPipeline, prepared: NullText, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; nothing is random."""
        return edited_from(unet_denoiser_of(pipe), self.decode(pipe, prepared, prompt)[1:])

    def reconstruct(self, pipe: DiffusionPipeline, prepared: NullText) -> np.ndarray:
        """The source's row."""
        return floats_of(unet_denoiser_of(pipe), self.decode(pipe, prepared, prepared.prompt))

    def backward_evaluations(self, prepared: NullText) -> int:
        """Of the denoiser, for one picture."""
        return prepared.backward_evaluations

    def decode(self, pipe: DiffusionPipeline, prepared: NullText, prompt: str) -> torch.Tensor:
        """The clean latents of the source and of the edit, (2, channels, height, width)."""
        denoiser = unet_denoiser_of(pipe)
        empty = embeds_of(denoiser, [""])
        settings = RestyleSettings(tau_c=self.tau_c, tau_s=self.tau_s, tau_u=self.tau_u)

        def learned(step: int) -> Conditioning:
            return _with_text(empty, prepared.embeds[step : step + 1])

        pair = SideBySide(prepared.latents, (prepared.prompt, prompt), settings, learned)
        return decoded_side_by_side(denoiser, self, pair)


def _with_text(empty: Conditioning, embeds: torch.Tensor) -> Conditioning:
    """The empty prompt with other text embeddings, (rows, tokens, width); any other tensors are not learned."""
    return Conditioning({**empty.tensors, "prompt_embeds": embeds}).to(empty.dtype)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What is to be learned of several pictures side by side.

    given, empty: Their prompts and the empty prompt, a row for each.
    """

    denoiser: UNetDenoiser
    schedule: Schedule
    given: Conditioning
    empty: Conditioning
    method: NullTextInversion

    def learn(self, clean: torch.Tensor, prompts: Sequence[str]) -> list[NullText]:
        """Learn step by step; `clean` are latents, (pictures, channels, height, width)."""
        schedule, watch = self.schedule, FiniteWatch()
        steps = schedule.num_inference_steps
        walk = invert_latents(
            predicting(self.denoiser, schedule, PromptPair(self.given)), schedule, clean, steps
        )
        latents, embeds = walk[-1], self.empty.prompt_embeds.float()
        learned, before, after, updates = [], [], [], torch.zeros(len(clean), dtype=torch.long)
        for step, level in enumerate(range(steps, 0, -1)):
            task = _Step(self, level, latents, walk[level - 1])
            embeds, first_error, taken = task.learn(step, embeds)
            latents, error = task.outcome(embeds, torch.arange(len(clean)))
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
    """One step of learning: where it starts, where it should lead, and the conditional prediction, computed once."""

    def __init__(self, lesson: _Lesson, level: int, latents: torch.Tensor, goal: torch.Tensor) -> None:
        self.lesson, self.level, self.latents, self.goal = lesson, level, latents, goal
        self.timestep = lesson.schedule.timestep(level)
        self.conditional = lesson.denoiser.predict(latents, self.timestep, lesson.given)

    def outcome(self, embeds: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the step leads with `embeds`, those of the pictures `rows`, and the squared error of each."""
        lesson, latents = self.lesson, self.latents[rows]
        unconditional = lesson.denoiser.predict(
            latents, self.timestep, _with_text(lesson.empty.rows(rows), embeds)
        )
        guided = lesson.denoiser.guide(unconditional, self.conditional[rows], lesson.method.guidance_scale)
        reached = ddim_step(latents, guided, lesson.schedule, self.level)
        return reached, (reached - self.goal[rows]).square().flatten(1).mean(1)

    @torch.enable_grad()
    def learn(self, step: int, embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The learned embeddings, the initial errors, and the number of updates, for each picture."""
        active = ActiveImages({"embeds": embeds}, LEARNING_RATE * max(1 - RATE_DECAY * step, 0.01))
        learned, first_error = embeds.clone(), torch.zeros(len(embeds), device=embeds.device)
        updates = torch.zeros(len(embeds), dtype=torch.long)
        for update in range(self.lesson.method.inner_steps):
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
