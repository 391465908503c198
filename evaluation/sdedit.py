"""SDEdit: noise the picture to a strength and denoise it under the new prompt, by diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import check_finite
from semantic_edit.evaluation.around import IMAGE_TO_IMAGE, another_pipeline
from semantic_edit.evaluation.method import EditMethod, picture_of


@dataclass(frozen=True)
class SDEdit(EditMethod[Image.Image]):
    """strength: Fraction of the noise to add, in (0, 1]; higher values change more.

    Source: SDEdit, arXiv:2108.01073.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ()

    strength: float = 0.5

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the strength covers less than one step."""
        super().check_steps(pipe)
        self._check_strength()

    def _check_strength(self) -> None:
        if int(self.num_inference_steps * self.strength) < 1:
            raise ValueError(
                f"`strength` {self.strength} of `num_inference_steps` {self.num_inference_steps} is less than one "
                "step; raise one of the two."
            )

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Image.Image]:
        """The pictures as they are."""
        return list(images)

    def edit(self, pipe: DiffusionPipeline, prepared: Image.Image, prompt: str, seed: int = 0) -> Image.Image:
        """Make one edit; the source prompt is not used.

        Raises:
            ValueError: If the strength covers less than one step.
            FloatingPointError: If the result has NaN or infinite values.
        """
        self._check_strength()
        # a separate scheduler, because the pipeline sets its timesteps; without clipping, like all other methods
        scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)
        latents = another_pipeline(IMAGE_TO_IMAGE, pipe, scheduler=scheduler)(
            prompt=prompt,
            image=prepared,
            strength=self.strength,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        ).images
        check_finite("the decoding", latents)
        return picture_of(denoiser_of(pipe), latents)
