"""Pipelines of another kind around the modules of a loaded one."""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline

from semantic_edit.denoisers import StableDiffusionDenoiser, StableDiffusionXLDenoiser, denoiser_of
from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
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
    """The class that does a task, "diffedit", "stylediffusion" or "image-to-image", with a loaded model's family."""
    return PIPELINES[type(denoiser_of(pipe))][task]


def another_pipeline(task: str, pipe: DiffusionPipeline, **changes: Any) -> Any:
    """A silent pipeline for another task around the same modules; not by `from_pipe`, which casts them.

    It has no safety checker: some methods are no pipelines and cannot have one, and its black pictures would count
    against the others.

    Args:
        task: See `pipeline_class`.
        changes: Components in place of the pipeline's own.
    """
    kind = pipeline_class(task, pipe)
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    # the config has options such as SDXL's `force_zeros_for_empty_prompt`, and the names of the modules' classes
    known = {**pipe.config, **pipe.components, **unchecked, **changes}
    taken = inspect.signature(kind).parameters
    made: Any = kind(**{name: value for name, value in known.items() if name in taken})
    made.set_progress_bar_config(disable=True)
    return made
