"""SDEdit inside our mask: what users of inpainting do with a mask that `locate` has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import Guidance, Walk, decode_latents
from semantic_edit.evaluation.around import DIFFEDIT, another_pipeline, pipeline_class
from semantic_edit.evaluation.method import Edited, EditMethod, image_of, latents_of, sides_of
from semantic_edit.pipelines import levels_for

CUT = 0.5


@dataclass(frozen=True, eq=False)
class Pictured:
    """A picture, what it shows, and its clean latents, (1, channels, height, width)."""

    image: Image.Image
    prompt: str
    latents: torch.Tensor


@dataclass(frozen=True)
class MaskedSDEdit(EditMethod[Pictured]):
    """The mask is that of DiffEdit's default preset. Inside it, the picture is drawn anew as by diffusers' inpainting
    with a model that was not trained for it, but from the autoencoder's mode. The picture's own pixels are laid over
    the result outside the mask.

    strength: How much noise to add, in (0, 1], as [`Schedule.levels`] counts it; the default is that of diffusers'
        inpainting.

    Source: SDEdit, arXiv:2108.01073; blended latent diffusion, arXiv:2206.02779.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ()

    strength: float = 1.0

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if DiffEdit, which finds the mask, has no pipeline here for the model."""
        super().check(pipe)
        pipeline_class(DIFFEDIT, pipe)

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the strength covers less than one step."""
        levels_for(self.schedule(denoiser_of(pipe)), "strength", self.strength)

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Pictured]:
        """Encode the pictures; the mask depends on the edit."""
        clean = latents_of(denoiser_of(pipe), images).split(1)
        return [Pictured(*one) for one in zip(images, source_prompts, clean, strict=True)]

    def edited(self, pipe: DiffusionPipeline, prepared: Pictured, prompt: str, seed: int = 0) -> Edited:
        """Make one edit, with its mask."""
        generator = torch.Generator().manual_seed(seed)
        mask = self.located(pipe, prepared, prompt, generator)
        latents = self.inpaint(pipe, prepared, prompt, mask, generator)
        redrawn = image_of(denoiser_of(pipe), latents)
        opacity = Image.fromarray((255 * mask).round().astype(np.uint8))
        whole = Image.composite(redrawn, prepared.image.convert("RGB"), opacity)
        return Edited(whole, latents, mask > CUT)

    def located(
        self, pipe: DiffusionPipeline, prepared: Pictured, prompt: str, generator: torch.Generator
    ) -> np.ndarray:
        """Where the edit applies, (height, width) in [0, 1]."""
        found: Any = another_pipeline(DIFFEDIT, pipe).locate(
            prepared.image,
            prepared.prompt,
            prompt,
            generator=generator,
            focus=False,
            **sides_of(prepared.image),
        )
        return found.pixel_mask[0, 0].cpu().numpy()

    @torch.no_grad()
    def inpaint(
        self,
        pipe: DiffusionPipeline,
        prepared: Pictured,
        prompt: str,
        mask: np.ndarray,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width); outside the mask they are the picture's."""
        denoiser, clean = denoiser_of(pipe), prepared.latents
        schedule = self.schedule(denoiser, clean)
        levels = levels_for(schedule, "strength", self.strength)
        noise = randn_tensor(clean.shape, generator=generator, device=clean.device)
        noised = [schedule.add_noise(clean, noise, level) for level in range(1, levels + 1)]
        pixels = torch.from_numpy(mask > CUT).to(clean)[None, None]
        inside = F.interpolate(pixels, clean.shape[-2:])  # of the nearest pixel, as in diffusers' inpainting
        walk = Walk(torch.stack([clean, *noised]), inside)
        prompts, guidance = self.prompts(denoiser, prompt), Guidance(self.guidance_scale)
        return decode_latents(denoiser, schedule, walk, prompts, guidance)
