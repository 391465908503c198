"""DiffEdit as a method of the comparison, with its ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import INVERSION, denoiser_of
from semantic_edit.editing import Trajectory
from semantic_edit.evaluation.around import DIFFEDIT, another_pipeline, pipeline_class
from semantic_edit.evaluation.encode_decode import EncodeDecode
from semantic_edit.evaluation.method import Edited, EditMethod, latents_of, sides_of
from semantic_edit.evaluation.word_swap import Inverted
from semantic_edit.pipelines import PRESETS, levels_for


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture and its inversion, or `None` if another encoding takes its place.

    The inversion reaches the noisiest level, so that it serves every encoding ratio.
    """

    image: Image.Image
    prompt: str
    trajectory: Trajectory | None


@dataclass(frozen=True)
class DiffEditMethod(EditMethod[Encoded]):
    """The knobs are those of [`DiffEditPipeline`] and two more for the paper's ablations.

    guidance_scale: `None` leaves it to the preset.
    preset: Supplies the settings that are not knobs; see [`with_preset`] for a method with all of a preset's settings.
    with_reference: Whether the mask compares with the source prompt rather than the empty one.
    encoding: As for the pipeline. With "noise", decoding starts from the picture noised as in SDEdit, and after each
        step everything outside the mask is replaced by the picture with the same noise at the level reached, as in
        diffusers' inpainting. To leave out the mask instead, see `EncodeDecode`; to leave out both, `SDEdit`. With
        "flowedit", only rectified flows are served; to leave out the mask, see `FlowEdit`. The mask itself does not
        depend on the encoding.

    Source: DiffEdit, arXiv:2210.11427, Sec. 3.2; the ablations are those of Sec. 4.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps", "encoding", "preset")

    guidance_scale: float | None = PRESETS["paper"].guidance_scale  # type: ignore[assignment]
    inpaint_strength: float = 0.8
    mask_threshold: float = 0.5
    mask_thresholding_ratio: float | None = None
    num_maps_per_mask: int = 10
    mask_encode_strength: float = 0.5
    preserve_background: bool = False
    preset: str = "paper"
    with_reference: bool = True
    encoding: str = INVERSION

    @classmethod
    def with_preset(cls, name: str) -> DiffEditMethod:
        """The method with all settings of one of the pipeline's presets."""
        own = PRESETS[name]
        return cls(
            num_inference_steps=own.num_inference_steps,
            num_maps_per_mask=own.num_maps_per_mask,
            guidance_scale=own.guidance_scale,
            preserve_background=own.preserve_background,
            preset=name,
        )

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if DiffEdit has no pipeline here for the model, or the model does not allow the
        encoding."""
        super().check(pipe)
        pipeline_class(DIFFEDIT, pipe)
        denoiser = denoiser_of(pipe)
        if self.encoding not in denoiser.encodings:
            raise ValueError(f"`encoding={self.encoding!r}` {denoiser.why_not(self.encoding)}.")

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if a strength covers less than one step."""
        schedule = self.schedule(denoiser_of(pipe))
        levels_for(schedule, "inpaint_strength", self.inpaint_strength)
        levels_for(schedule, "mask_encode_strength", self.mask_encode_strength)

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Encoded]:
        """Invert the pictures, which does not depend on any knob of the mask."""
        parts: list[Trajectory | None] = [None] * len(images)
        if self.encoding == INVERSION:
            inverted: Any = another_pipeline(DIFFEDIT, pipe).invert(
                image=list(images),
                num_inference_steps=self.num_inference_steps,
                inpaint_strength=1.0,
                preset=self.preset,
                **sides_of(images[0]),
            )
            parts = list(inverted.trajectory.split())
        return [Encoded(*one) for one in zip(images, source_prompts, parts, strict=True)]

    def edited(self, pipe: DiffusionPipeline, prepared: Encoded, prompt: str, seed: int = 0) -> Edited:
        """Make one edit, with its mask."""
        reached: list[torch.Tensor] = []

        def note(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            reached[:] = [tensors["latents"].clone()]
            return tensors

        inverts = prepared.trajectory is not None
        done: Any = another_pipeline(DIFFEDIT, pipe)(
            image=prepared.image,
            prompt=prompt,
            source_prompt=prepared.prompt if self.with_reference else "",
            inpaint_strength=self.inpaint_strength,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            num_maps_per_mask=self.num_maps_per_mask,
            mask_encode_strength=self.mask_encode_strength,
            mask_thresholding_ratio=self.mask_thresholding_ratio,
            mask_threshold=self.mask_threshold,
            preserve_background=self.preserve_background,
            preset=self.preset,
            focus=False,
            trajectory=prepared.trajectory,
            encoding=None if inverts else self.encoding,
            callback_on_step_end=note,
            **sides_of(prepared.image),
        )
        # with an empty mask there are no steps
        latents = reached[0] if reached else latents_of(denoiser_of(pipe), [prepared.image])
        return Edited(done.images[0], latents, done.pixel_mask[0, 0].cpu().numpy() > 0.5)

    def reconstruct(self, pipe: DiffusionPipeline, prepared: Encoded) -> np.ndarray | None:
        """Decode the whole picture under the empty prompt, from where it was encoded to."""
        if prepared.trajectory is None:
            return None
        scale = EncodeDecode.guidance_scale if self.guidance_scale is None else self.guidance_scale
        unmasked = EncodeDecode(self.num_inference_steps, scale, self.inpaint_strength)
        return unmasked.reconstruct(pipe, Inverted(prepared.trajectory.latents, ""))
