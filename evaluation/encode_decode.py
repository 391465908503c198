"""Encode-Decode: DiffEdit without its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.word_swap import Inverted, WordSwap
from semantic_edit.pipelines import levels_for


@dataclass(frozen=True)
class EncodeDecode(WordSwap):
    """Invert under the empty prompt, as far as `strength` says, and decode under the new one.

    It reconstructs under the empty prompt, where guidance has no effect.

    strength: The encoding ratio, in (0, 1], as [`Schedule.levels`] counts it; higher values change more. Inversions
        reach the noisiest level, so that one serves every strength.

    Source: the ablation "Encode-Decode" of DiffEdit, arXiv:2210.11427.
    """

    strength: float = 0.8

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Inverted]:
        """Invert the pictures; the source prompts are not used."""
        return super().prepare(pipe, images, [""] * len(images))

    def decode(self, pipe: DiffusionPipeline, prepared: Inverted, prompt: str) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width).

        Raises:
            ValueError: If the strength is outside (0, 1], or covers less than one step.
        """
        encoded = replace(prepared, latents=prepared.latents[: self._levels(pipe, prepared.latents) + 1])
        return super().decode(pipe, encoded, prompt)

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the strength covers less than one step."""
        self._levels(pipe)

    def _levels(self, pipe: DiffusionPipeline, latents: torch.Tensor | None = None) -> int:
        """The number of levels that `strength` covers, for latents of a size."""
        return levels_for(self.schedule(denoiser_of(pipe), latents), "strength", self.strength)
