"""ILVR: sample under the new prompt, keeping the picture's low frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import real_number, whole_number
from semantic_edit.editing import Guidance, StepHooks, Walk, decode_latents
from semantic_edit.evaluation.method import Edited, EditMethod, edited_from, latents_of


@dataclass(frozen=True)
class ILVR(EditMethod[torch.Tensor]):
    """Start from pure noise; after each step, replace the sample's low frequencies by those of the noised picture.

    The paper's model is unconditional, works on pixels and is sampled by DDPM. Here the latent of a text-conditional
    model is refined, sampled by DDIM, or on
    a rectified flow by Euler's method, with guidance. Only the start and the noise of the references, which is new at
    each level, are random. At level 0 the reference is the picture's latent itself.

    down_factor: N, by which the latent is down- and then upsampled; higher values change more. One pixel of a latent
        usually covers 8 of the picture, and the published examples use N = 8, 16 and 32 on pictures of 256 pixels.
    refined: Fraction of the steps, counted from the noisy end, after which refinement ends; lower values change more.
        The published example refines 79 of 100.

    Source: ILVR, arXiv:2108.02938, Algorithm 1.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ()

    down_factor: int = 4
    refined: float = 0.8

    def __post_init__(self) -> None:
        shrinks = "It is by how much the latent shrinks; 1 leaves it as it is."
        read_number("down_factor", self.down_factor, whole_number(1, 1_000_000), shrinks)
        read_number("refined", self.refined, real_number(0, 1), "It is a fraction of the steps.")

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[torch.Tensor]:
        """Clean latents, (1, channels, height, width) each; the source prompts are not used."""
        return list(latents_of(denoiser_of(pipe), images).split(1))

    def edited(self, pipe: DiffusionPipeline, prepared: torch.Tensor, prompt: str, seed: int = 0) -> Edited:
        """Make one edit."""
        return edited_from(denoiser_of(pipe), self.sample(pipe, prepared, prompt, seed))

    @torch.no_grad()
    def sample(
        self, pipe: DiffusionPipeline, prepared: torch.Tensor, prompt: str, seed: int = 0
    ) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width)."""
        denoiser, generator = denoiser_of(pipe), torch.Generator().manual_seed(seed)
        schedule = self.schedule(denoiser, prepared)
        steps = schedule.num_inference_steps

        def drawn() -> torch.Tensor:
            return randn_tensor(prepared.shape, generator=generator, device=prepared.device)

        def refine(step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
            if step >= int(self.refined * steps + 1e-6):
                return {}
            level = steps - step - 1
            reference = schedule.add_noise(prepared, drawn(), level) if level else prepared
            latents = tensors["latents"]
            return {"latents": latents + self._low(reference) - self._low(latents)}

        return decode_latents(
            denoiser,
            schedule,
            Walk(
                drawn().expand(steps + 1, *prepared.shape)
            ),  # without a mask only the noisiest level is read
            self.prompts(denoiser, prompt),
            Guidance(self.guidance_scale),
            StepHooks(after=refine),
        )

    def _low(self, latents: torch.Tensor) -> torch.Tensor:
        """Down- and upsample; bicubic with antialiasing, without which the paper's method is known to suffer."""
        height, width = latents.shape[-2:]
        small = (max(1, round(height / self.down_factor)), max(1, round(width / self.down_factor)))
        reduced = F.interpolate(latents, small, mode="bicubic", antialias=True)
        return F.interpolate(reduced, (height, width), mode="bicubic", antialias=True)
