"""FlowEdit as its authors have it: the whole picture moves from one prompt to the other, without a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import FlowEditWalk, PromptPair, flow_edit
from semantic_edit.evaluation.method import (
    Edited,
    EditMethod,
    check_flow,
    edited_from,
    embeds_of,
    latents_of,
    steps_of,
)


@dataclass(frozen=True, eq=False)
class Described:
    """latents: (1, channels, height, width), clean; they show what `prompt` says."""

    latents: torch.Tensor
    prompt: str


@dataclass(frozen=True)
class FlowEdit(EditMethod[Described]):
    """For rectified flows alone. The defaults are those published for Stable Diffusion 3.

    guidance_scale, source_guidance: Of the velocities under the target's and the source's prompt; `None` takes what is
        published for the model's family, on Stable Diffusion 3 13.5 and 3.5.
    moved: Fraction of the steps that move the picture, in (0, 1]; higher values change more. 0.66 of 50 steps is 33.

    Source: FlowEdit, arXiv:2412.08629, Alg. 1, with one noise a step.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ()

    guidance_scale: float | None = None  # type: ignore[assignment]
    source_guidance: float | None = None
    moved: float = 0.66

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the model is no rectified flow."""
        super().check(pipe)
        check_flow(denoiser_of(pipe), "FlowEdit")

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if `moved` is less than one step."""
        steps_of(self.schedule(denoiser_of(pipe)), "moved", self.moved)

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Described]:
        """The pictures' latents; nothing is inverted."""
        clean = latents_of(denoiser_of(pipe), images).split(1)
        return [Described(*one) for one in zip(clean, source_prompts, strict=True)]

    def edited(self, pipe: DiffusionPipeline, prepared: Described, prompt: str, seed: int = 0) -> Edited:
        """Make one edit."""
        return edited_from(denoiser_of(pipe), self.move(pipe, prepared, prompt, seed))

    @torch.no_grad()
    def move(self, pipe: DiffusionPipeline, prepared: Described, prompt: str, seed: int = 0) -> torch.Tensor:
        """The edit's clean latents, (1, channels, height, width)."""
        denoiser, generator = denoiser_of(pipe), torch.Generator().manual_seed(seed)
        clean = prepared.latents
        schedule = self.schedule(denoiser, clean)

        def draw_noise() -> torch.Tensor:
            return randn_tensor(clean.shape, generator=generator, device=clean.device)

        given = embeds_of(denoiser, [prepared.prompt, prompt, ""])
        source, target, empty = (given.rows(slice(row, row + 1)) for row in range(3))
        scales = [
            usual if own is None else own
            for own, usual in zip(
                (self.source_guidance, self.guidance_scale), denoiser.flow_edit_scales, strict=True
            )
        ]
        return flow_edit(
            schedule,
            FlowEditWalk(clean, steps_of(schedule, "moved", self.moved), draw_noise),
            denoiser.guided_side(PromptPair(source, empty), scales[0]),
            denoiser.guided_side(PromptPair(target, empty), scales[1]),
        )
