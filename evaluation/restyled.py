"""StyleDiffusion as a method of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.evaluation.around import STYLEDIFFUSION, another_pipeline, pipeline_class
from semantic_edit.evaluation.method import Edited, EditMethod, sides_of
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines import AUTOMATIC


@dataclass(frozen=True, eq=False)
class LearnedImage:
    """A picture, and what was learned of it."""

    image: Image.Image
    network: MappingNetwork


@dataclass(frozen=True)
class Restyled(EditMethod[LearnedImage]):
    """tau_v, tau_c, tau_s, tau_u, variant, settings: as for [`StyleDiffusionPipeline`].

    confined: Whether edits are confined by a mask that is found, and laid over the picture.

    Source: StyleDiffusion, arXiv:2303.15649.
    """

    prepared_by: ClassVar[tuple[str, ...]] = (
        "num_inference_steps",
        "guidance_scale",
        "variant",
        "settings",
    )

    num_inference_steps: int = 20
    tau_v: float = 0.6
    tau_c: float = 0.6
    tau_s: float = 0.8
    tau_u: float = 0.5
    confined: bool = False
    variant: str = "modulate"
    settings: LearningSettings = field(default_factory=LearningSettings.short)

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if StyleDiffusion does not serve the model's family, or the pipeline has no image
        encoder, through which pictures are learned."""
        super().check(pipe)
        pipeline_class(STYLEDIFFUSION, pipe)
        if pipe.image_encoder is None or pipe.feature_extractor is None:
            raise ValueError(
                "StyleDiffusion learns a picture through a CLIP vision model, and this model has none. Give it one: on "
                "the command line by --image-encoder openai/clip-vit-base-patch16, in Python as `image_encoder` and "
                "`feature_extractor`."
            )

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[LearnedImage]:
        """Learn all pictures in one batch."""
        networks = style_pipeline(pipe).learn_mapping(
            list(images),
            list(source_prompts),
            self.num_inference_steps,
            self.guidance_scale,
            variant=self.variant,
            settings=self.settings,
            **sides_of(images[0]),
        )
        return [LearnedImage(*one) for one in zip(images, networks, strict=True)]

    def edited(self, pipe: DiffusionPipeline, prepared: LearnedImage, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; only the noise that a mask is found with is random."""
        given: dict[str, Any] = {name: getattr(self, name) for name in ("tau_v", "tau_c", "tau_s", "tau_u")}
        if self.confined:
            given |= {"mask_image": AUTOMATIC, "image": prepared.image, "preserve_background": True}
            given["generator"] = torch.Generator().manual_seed(seed)
        done: Any = style_pipeline(pipe)(
            prompt, mapping_network=prepared.network, guidance_scale=self.guidance_scale, **given
        )
        mask = done.pixel_mask
        return Edited(done.images[0], mask=None if mask is None else mask[0, 0].cpu().numpy() > 0.5)

    def reconstruct(self, pipe: DiffusionPipeline, prepared: LearnedImage) -> np.ndarray:
        """An edit that changes no word, by what was learned alone: without the source's attention, which is on its
        inversion and would hide what guidance does."""
        alone = {"tau_v": 1.0, "tau_c": 0.0, "tau_s": 0.0, "tau_u": 0.0}
        network = prepared.network
        done: Any = style_pipeline(pipe)(
            network.config.prompt, mapping_network=network, output_type="np", **alone
        )
        return done.images[0]

    def backward_evaluations(self, prepared: LearnedImage) -> int:
        """Of the denoiser; 0, because unknown, for a picture that was not learned in this process."""
        report = prepared.network.report
        return 0 if report is None else report.backward_evaluations[0]


def style_pipeline(pipe: DiffusionPipeline) -> Any:
    """Our pipeline around the same modules, or `pipe` itself if it is one."""
    if isinstance(pipe, pipeline_class(STYLEDIFFUSION, pipe)):
        return pipe
    return another_pipeline(STYLEDIFFUSION, pipe)
