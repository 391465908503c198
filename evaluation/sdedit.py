"""SDEdit: noise the picture to a strength and denoise it under the new prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import Guidance, Walk, decode_latents
from semantic_edit.evaluation.method import Edited, EditMethod, edited_from, latents_of
from semantic_edit.pipelines import levels_for


@dataclass(frozen=True)
class SDEdit(EditMethod[torch.Tensor]):
    """The same walk as that of diffusers' image-to-image pipelines, but from the autoencoder's mode.

    strength: How much noise to add, in (0, 1], as [`Schedule.levels`] counts it; higher values change more.

    Source: SDEdit, arXiv:2108.01073.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ()

    strength: float = 0.5

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the strength covers less than one step."""
        levels_for(self.schedule(denoiser_of(pipe)), "strength", self.strength)

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[torch.Tensor]:
        """Clean latents, (1, channels, height, width) each; the source prompts are not used."""
        return list(latents_of(denoiser_of(pipe), images).split(1))

    @torch.no_grad()
    def edited(self, pipe: DiffusionPipeline, prepared: torch.Tensor, prompt: str, seed: int = 0) -> Edited:
        """Make one edit.

        Raises:
            ValueError: If the strength is outside (0, 1], or covers less than one step.
            FloatingPointError: If the result has NaN or infinite values.
        """
        denoiser, generator = denoiser_of(pipe), torch.Generator().manual_seed(seed)
        schedule = self.schedule(denoiser, prepared)
        levels = levels_for(schedule, "strength", self.strength)
        noise = randn_tensor(prepared.shape, generator=generator, device=prepared.device)
        noised = schedule.add_noise(prepared, noise, levels)
        walk = Walk(
            noised.expand(levels + 1, *noised.shape)
        )  # without a mask only the noisiest level is read
        prompts, guidance = self.prompts(denoiser, prompt), Guidance(self.guidance_scale)
        return edited_from(denoiser, decode_latents(denoiser, schedule, walk, prompts, guidance))
