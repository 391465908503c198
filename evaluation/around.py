"""Build pipelines for other tasks around the modules of a loaded one."""

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
    """The class for a task with the family of a loaded model.

    Args:
        task: "diffedit", "stylediffusion" or "image-to-image".
        pipe: The loaded model.
    """
    return PIPELINES[type(denoiser_of(pipe))][task]


def another_pipeline(task: str, pipe: DiffusionPipeline, **changes: Any) -> Any:
    """A pipeline for another task around the same modules, without progress bars. Not made by `from_pipe`, which casts
    them.

    It has no safety checker: methods that are not pipelines cannot have one, and its black images would count against
    the others.

    Args:
        task: See `pipeline_class`.
        pipe: The loaded model.
        changes: Components in place of the pipeline's own.
    """
    kind = pipeline_class(task, pipe)
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    # the config contains options such as SDXL's `force_zeros_for_empty_prompt`, and the class names of the modules
    known = {**pipe.config, **pipe.components, **unchecked, **changes}
    taken = inspect.signature(kind).parameters
    made: Any = kind(**{name: value for name, value in known.items() if name in taken})
    made.set_progress_bar_config(disable=True)
    return made
