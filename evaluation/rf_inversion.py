"""RF-Inversion: walk to noise and back along a rectified flow, drawn towards a noise and towards the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import real_number
from semantic_edit.editing import (
    FiniteWatch,
    PromptPair,
    at_step,
    ddim_inverse_step,
    ddim_step,
    predict_guided,
)
from semantic_edit.evaluation.method import (
    Edited,
    EditMethod,
    check_flow,
    edited_from,
    embeds_of,
    floats_of,
    latents_of,
    preparing_generator,
    steps_of,
)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture's latents and those at the noisiest level, both (1, channels, height, width)."""

    clean: torch.Tensor
    noisiest: torch.Tensor


@dataclass(frozen=True)
class RFInversion(EditMethod[Drawn]):
    """For rectified flows alone. The defaults are those of the authors' published pipeline for FLUX and its example.

    The inversion is under the empty prompt and not guided. Each of its steps evaluates the model at the noisier time of
    the pair, as everywhere here. The noise that it is drawn towards is the same for every picture, so that all settings
    share one inversion.

    gamma: How strongly the inversion is drawn towards noise, in [0, 1]; 0 is Euler's inversion.
    eta: How strongly the decoding is drawn towards the picture, in [0, 1]; higher values change less.
    stop: Fraction of the steps, counted from the noisy end, after which it is no longer drawn, in (0, 1]; higher values
        change less. At 1, an `eta` of 1 returns the picture's latents.

    Source: RF-Inversion, arXiv:2410.10792, Alg. 1 and 2.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps", "gamma")

    num_inference_steps: int = 28
    gamma: float = 0.5
    eta: float = 0.9
    stop: float = 0.25

    def __post_init__(self) -> None:
        for name in ("gamma", "eta"):
            read_number(
                name, getattr(self, name), real_number(0, 1), "It is a weight between two velocities."
            )

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the model is no rectified flow."""
        super().check(pipe)
        check_flow(denoiser_of(pipe), "RF-Inversion")

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if `stop` is less than one step."""
        steps_of(self.schedule(denoiser_of(pipe)), "stop", self.stop)

    @torch.no_grad()
    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Drawn]:
        """Invert the pictures; the source prompts are not used."""
        denoiser, watch = denoiser_of(pipe), FiniteWatch()
        encoder, clean = denoiser.for_encoding(), latents_of(denoiser, images)
        schedule = self.schedule(denoiser, clean)
        empty = PromptPair(embeds_of(denoiser, [""]).expand(len(clean)))
        noise = randn_tensor(clean[:1].shape, generator=preparing_generator(), device=clean.device)
        latents = clean
        for level in range(1, schedule.num_inference_steps + 1):
            timestep = schedule.timestep(level)
            velocity = predict_guided(encoder, latents, timestep, empty)
            towards_noise = (noise - latents) / schedule.signal[level - 1]
            drawn = torch.lerp(velocity, towards_noise, self.gamma)
            latents = ddim_inverse_step(latents, drawn, schedule, level)
            watch.see(at_step("the inversion", level - 1, timestep), latents)
        watch.check()
        return [Drawn(*one) for one in zip(clean.split(1), latents.split(1), strict=True)]

    def edited(self, pipe: DiffusionPipeline, prepared: Drawn, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; the seed is not used."""
        return edited_from(denoiser_of(pipe), self.decode(pipe, prepared, prompt))

    def reconstruct(self, pipe: DiffusionPipeline, prepared: Drawn) -> np.ndarray:
        """How the empty prompt reproduces the picture."""
        return floats_of(denoiser_of(pipe), self.decode(pipe, prepared, ""))

    @torch.no_grad()
    def decode(self, pipe: DiffusionPipeline, prepared: Drawn, prompt: str) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width)."""
        denoiser, watch, latents = denoiser_of(pipe), FiniteWatch(), prepared.noisiest
        schedule = self.schedule(denoiser, latents)
        steps = steps_of(schedule, "stop", self.stop)
        side = denoiser.guided_side(self.prompts(denoiser, prompt), self.guidance_scale)
        for step, level in enumerate(range(schedule.num_inference_steps, 0, -1)):
            timestep = schedule.timestep(level)
            velocity = predict_guided(side.predictor, latents, timestep, side.prompts, side.scale)
            if step < steps:
                from_image = (latents - prepared.clean) / schedule.noise[level]
                velocity = torch.lerp(velocity, from_image, self.eta)
            latents = ddim_step(latents, velocity, schedule, level)
            watch.see(at_step("the decoding", step, timestep), latents)
        watch.check()
        return latents
