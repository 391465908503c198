"""DDIM and a word swap: invert under what the picture shows, decode under what it shall show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from semantic_edit.editing.inversion import decode_latents, invert_latents
from semantic_edit.evaluation.method import EditMethod, embeds_of, floats_of, latents_of, picture_of
from semantic_edit.pipelines.stages import noise_predictor


@dataclass(frozen=True, eq=False)
class Inverted:
    """latents: (levels + 1, 1, channels, height, width), level 0 the clean picture; made under `prompt` at w = 1."""

    latents: torch.Tensor
    prompt: str


@dataclass(frozen=True)
class WordSwap(EditMethod):
    """The knob is `guidance_scale`, that of the decoding; the inversion has none.

    Source: the baseline "DDIM with word swap" of DiffEdit, Prompt-to-Prompt and StyleDiffusion.
    """

    @torch.no_grad()
    def prepare(
        self, pipe: Any, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Inverted]:
        """The inversions."""
        schedule = self.schedule(pipe)
        walk = invert_latents(
            noise_predictor(pipe),
            schedule,
            latents_of(pipe, images),
            embeds_of(pipe, source_prompts),
            schedule.num_inference_steps,
        )
        rows = walk.split(1, dim=1)
        return [Inverted(*row) for row in zip(rows, source_prompts, strict=True)]

    def edit(self, pipe: Any, prepared: Inverted, prompt: str, seed: int = 0) -> Image.Image:
        """One edit; nothing is drawn."""
        return picture_of(pipe, self._decoded(pipe, prepared, prompt))

    def reconstruct(self, pipe: Any, prepared: Inverted) -> np.ndarray:
        """What guidance leaves of the picture under its own prompt."""
        return floats_of(pipe, self._decoded(pipe, prepared, prepared.prompt))

    @torch.no_grad()
    def _decoded(self, pipe: Any, prepared: Inverted, prompt: str) -> torch.Tensor:
        embeds = embeds_of(pipe, [prompt, ""])
        return decode_latents(
            noise_predictor(pipe),
            self.schedule(pipe),
            prepared.latents,
            embeds[:1],
            negative_prompt_embeds=None if self.guidance_scale == 1 else embeds[1:],
            guidance_scale=self.guidance_scale,
        )
