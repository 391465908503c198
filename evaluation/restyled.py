"""StyleDiffusion as a method of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.evaluation.around import STYLEDIFFUSION, another_pipeline, pipeline_class
from semantic_edit.evaluation.method import Edited, EditMethod, sides_of
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork


@dataclass(frozen=True)
class Restyled(EditMethod[MappingNetwork]):
    """tau_v, tau_c, tau_s, tau_u, variant, settings: as for [`StyleDiffusionPipeline`].

    Source: StyleDiffusion, arXiv:2303.15649.
    """

    prepared_by: ClassVar[tuple[str, ...]] = (
        "num_inference_steps",
        "guidance_scale",
        "variant",
        "settings",
    )

    num_inference_steps: int = 30
    tau_v: float = 0.6
    tau_c: float = 0.6
    tau_s: float = 0.8
    tau_u: float = 0.5
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
    ) -> list[MappingNetwork]:
        """Learn all pictures in one batch."""
        return style_pipeline(pipe).learn_mapping(
            list(images),
            list(source_prompts),
            self.num_inference_steps,
            self.guidance_scale,
            variant=self.variant,
            settings=self.settings,
            **sides_of(images[0]),
        )

    def edited(self, pipe: DiffusionPipeline, prepared: MappingNetwork, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; nothing is random."""
        taus = {name: getattr(self, name) for name in ("tau_v", "tau_c", "tau_s", "tau_u")}
        done: Any = style_pipeline(pipe)(
            prompt, mapping_network=prepared, guidance_scale=self.guidance_scale, **taus
        )
        return Edited(done.images[0])

    def reconstruct(self, pipe: DiffusionPipeline, prepared: MappingNetwork) -> np.ndarray:
        """An edit that changes no word, by what was learned alone: without the source's attention, which is on its
        inversion and would hide what guidance does."""
        learned = {"tau_v": 1.0, "tau_c": 0.0, "tau_s": 0.0, "tau_u": 0.0}
        prompt = prepared.config.prompt
        done: Any = style_pipeline(pipe)(prompt, mapping_network=prepared, output_type="np", **learned)
        return done.images[0]

    def backward_evaluations(self, prepared: MappingNetwork) -> int:
        """Of the denoiser; 0, because unknown, for a picture that was not learned in this process."""
        return 0 if prepared.report is None else prepared.report.backward_evaluations[0]


def style_pipeline(pipe: DiffusionPipeline) -> Any:
    """Our pipeline around the same modules, or `pipe` itself if it is one."""
    if isinstance(pipe, pipeline_class(STYLEDIFFUSION, pipe)):
        return pipe
    return another_pipeline(STYLEDIFFUSION, pipe)
