"""Build pipelines for other tasks around the modules of a loaded one."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline

from semantic_edit.denoisers import StableDiffusionDenoiser, StableDiffusionXLDenoiser, denoiser_of
from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
    pipeline_around,
)

DIFFEDIT, STYLEDIFFUSION, IMAGE_TO_IMAGE = "diffedit", "stylediffusion", "image-to-image"
PIPELINES: dict[type, dict[str, type]] = {
    StableDiffusionDenoiser: {
        DIFFEDIT: DiffEditPipeline,
        STYLEDIFFUSION: StyleDiffusionPipeline,
        IMAGE_TO_IMAGE: StableDiffusionImg2ImgPipeline,
    },
    StableDiffusionXLDenoiser: {
        DIFFEDIT: StableDiffusionXLDiffEditPipeline,
        STYLEDIFFUSION: StableDiffusionXLStyleDiffusionPipeline,
        IMAGE_TO_IMAGE: StableDiffusionXLImg2ImgPipeline,
    },
}


def pipeline_class(task: str, pipe: DiffusionPipeline) -> type:
    """The class for a task with the family of a loaded model.

    Args:
        task: "diffedit", "stylediffusion" or "image-to-image".
        pipe: The loaded model.
    """
    return PIPELINES[type(denoiser_of(pipe))][task]


def another_pipeline(task: str, pipe: DiffusionPipeline, **changes: Any) -> Any:
    """A pipeline for another task around the same modules, without progress bars.

    It has no safety checker: methods that are not pipelines cannot have one, and its black images would count against
    the others.

    Args:
        task: See `pipeline_class`.
        pipe: The loaded model.
        changes: Components in place of the pipeline's own.
    """
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    made = pipeline_around(pipeline_class(task, pipe), pipe, **{**unchecked, **changes})
    made.set_progress_bar_config(disable=True)
    return made
