"""Inversion with a word swap: invert under what the picture shows, decode under what it should show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import Guidance, PromptPair, Walk, decode_latents, invert_latents, predicting
from semantic_edit.evaluation.method import (
    Edited,
    EditMethod,
    edited_from,
    embeds_of,
    floats_of,
    latents_of,
)


@dataclass(frozen=True, eq=False)
class Inverted:
    """latents: (levels + 1, 1, channels, height, width), level 0 is clean; made under `prompt` at w = 1."""

    latents: torch.Tensor
    prompt: str


@dataclass(frozen=True)
class WordSwap(EditMethod[Inverted]):
    """The knob is `guidance_scale`, for decoding; the inversion is not guided.

    Noise-predicting models are inverted and decoded by DDIM. Rectified flows are inverted by predictor and corrector,
    which costs as much as Euler's method and errs less, and decoded by Euler's method; see `invert_latents`.

    Source: the baseline "DDIM with word swap" of DiffEdit, Prompt-to-Prompt and StyleDiffusion.
    """

    @torch.no_grad()
    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Inverted]:
        """Invert the pictures."""
        denoiser = denoiser_of(pipe)
        encoder, clean = denoiser.for_encoding(), latents_of(denoiser, images)
        schedule = self.schedule(denoiser, clean)
        predict = predicting(encoder, schedule, PromptPair(embeds_of(denoiser, source_prompts)))
        walk = invert_latents(predict, schedule, clean, schedule.num_inference_steps)
        return [Inverted(*row) for row in zip(walk.split(1, dim=1), source_prompts, strict=True)]

    def edited(self, pipe: DiffusionPipeline, prepared: Inverted, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; nothing is random."""
        return edited_from(denoiser_of(pipe), self.decode(pipe, prepared, prompt))

    def reconstruct(self, pipe: DiffusionPipeline, prepared: Inverted) -> np.ndarray:
        """How guidance under its own prompt reproduces the picture."""
        return floats_of(denoiser_of(pipe), self.decode(pipe, prepared, prepared.prompt))

    @torch.no_grad()
    def decode(self, pipe: DiffusionPipeline, prepared: Inverted, prompt: str) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width)."""
        denoiser = denoiser_of(pipe)
        return decode_latents(
            denoiser,
            self.schedule(denoiser, prepared.latents),
            Walk(prepared.latents),
            self.prompts(denoiser, prompt),
            Guidance(self.guidance_scale),
        )
