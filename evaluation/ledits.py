"""LEDITS++: diffusers' own pipeline as a method of the comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from PIL import Image

from semantic_edit.attention_processors import lock_of
from semantic_edit.denoisers import denoiser_of
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import real_number
from semantic_edit.editing import check_finite
from semantic_edit.evaluation.around import LEDITS, another_pipeline, pipeline_class
from semantic_edit.evaluation.method import Edited, EditMethod, edited_from, floats_of, preparing_generator


@dataclass(frozen=True, eq=False)
class Ready:
    """A pipeline that has inverted a picture, and what the picture shows."""

    pipe: Any
    prompt: str


@dataclass(frozen=True)
class LEDITSPlusPlus(EditMethod[Ready]):
    """LEDITS++ with the sampler of its paper, DPM-Solver++ with noise of order 2, whatever the model's own scheduler.

    As in its published examples, the inversion is under the empty prompt. The defaults are the best of those tried on
    eight validation pictures, half of them with object edits: with the published ones (a scale of 10, a threshold of
    .75, and the mask of the guidance cut by that of attention) half of the object edits succeeded by the nearest
    render, with these all, and the background is better, too. Where attention has 8x8 positions, its mask misses parts
    of the object.

    guidance_scale: How strongly the edit is guided towards the new prompt.
    skip: The fraction of the steps that are added to `num_inference_steps` and left out, in [0, 1]; higher values
        change less.
    threshold: The fraction of the picture that an edit leaves alone, in [0, 1): where the guidance is weakest.

    Source: LEDITS++, arXiv:2311.16711, Sec. 3.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps", "skip")

    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    skip: float = 0.1
    threshold: float = 0.9

    def __post_init__(self) -> None:
        read_number("skip", self.skip, real_number(0, 1), "It is a fraction of the steps.")
        read_number("threshold", self.threshold, real_number(0, 1), "It is a fraction of the picture.")

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if diffusers has no LEDITS++ for the model's family."""
        super().check(pipe)
        pipeline_class(LEDITS, pipe)

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the steps that are left out are too many on top of the others."""
        super().check_steps(pipe)
        most, walked = (
            pipe.scheduler.config.num_train_timesteps,
            int(self.num_inference_steps * (1 + self.skip)),
        )
        if walked > most:
            raise ValueError(
                f"LEDITS++ adds the fraction `skip` {self.skip} to `num_inference_steps` {self.num_inference_steps}, "
                f"which makes {walked} steps, and the model was trained on {most}; lower one of the two."
            )

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Ready]:
        """Invert the pictures one by one, because a pipeline edits all that it has inverted."""
        return [
            Ready(self._inverted(pipe, image), one) for image, one in zip(images, source_prompts, strict=True)
        ]

    def edited(self, pipe: DiffusionPipeline, prepared: Ready, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; the seed is not used."""
        return edited_from(denoiser_of(pipe), self.decode(prepared, [prompt]))

    def reconstruct(self, pipe: DiffusionPipeline, prepared: Ready) -> np.ndarray:
        """How the pipeline reproduces the picture if it is not to edit anything."""
        return floats_of(denoiser_of(pipe), self.decode(prepared, None))

    def decode(self, prepared: Ready, prompts: list[str] | None) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width)."""
        with _processors_kept(prepared.pipe.unet):
            latents = prepared.pipe(
                editing_prompt=prompts,
                edit_guidance_scale=self.guidance_scale,
                edit_threshold=self.threshold,
                use_intersect_mask=False,
                output_type="latent",
            ).images
        check_finite("the decoding", latents)
        return latents

    def _inverted(self, pipe: DiffusionPipeline, image: Image.Image) -> Any:
        scheduler = DPMSolverMultistepScheduler.from_config(
            pipe.scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2
        )
        own = another_pipeline(LEDITS, pipe, scheduler=scheduler)
        with _processors_kept(pipe.unet):
            own.invert(
                image,
                num_inversion_steps=self.num_inference_steps,
                skip=self.skip,
                generator=preparing_generator(),
            )
        check_finite("the inversion", own.zs)
        return own


@contextmanager
def _processors_kept(unet: Any) -> Iterator[None]:
    """Put back the attention processors that LEDITS++ replaces."""
    with lock_of(unet):
        before = dict(unet.attn_processors)
        try:
            yield
        finally:
            unet.set_attn_processor(before)
