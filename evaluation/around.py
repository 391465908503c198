"""Build pipelines for other tasks around the modules of a loaded one."""

from __future__ import annotations

from typing import Any

from diffusers import (
    DiffusionPipeline,
    LEditsPPPipelineStableDiffusion,
    LEditsPPPipelineStableDiffusionXL,
)

from semantic_edit.denoisers import (
    Denoiser,
    StableDiffusion3Denoiser,
    StableDiffusionDenoiser,
    StableDiffusionXLDenoiser,
    denoiser_of,
)
from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusion3DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
    pipeline_around,
)

DIFFEDIT, STYLEDIFFUSION, LEDITS = "diffedit", "stylediffusion", "ledits"
TITLES = {DIFFEDIT: "DiffEdit", STYLEDIFFUSION: "StyleDiffusion", LEDITS: "LEDITS++"}
PIPELINES: dict[type[Denoiser], dict[str, type]] = {
    StableDiffusionDenoiser: {
        DIFFEDIT: DiffEditPipeline,
        STYLEDIFFUSION: StyleDiffusionPipeline,
        LEDITS: LEditsPPPipelineStableDiffusion,
    },
    StableDiffusionXLDenoiser: {
        DIFFEDIT: StableDiffusionXLDiffEditPipeline,
        STYLEDIFFUSION: StableDiffusionXLStyleDiffusionPipeline,
        LEDITS: LEditsPPPipelineStableDiffusionXL,
    },
    StableDiffusion3Denoiser: {DIFFEDIT: StableDiffusion3DiffEditPipeline},
}


def pipeline_class(task: str, pipe: DiffusionPipeline) -> type:
    """The class for a task with the family of a loaded model.

    Args:
        task: "diffedit", "stylediffusion" or "ledits".
        pipe: The loaded model.

    Raises:
        ValueError: If there is no such class for the model's family.
    """
    denoiser = denoiser_of(pipe)
    tasks = PIPELINES.get(type(denoiser), {})
    if task not in tasks:
        served = [kind.family.title for kind, others in PIPELINES.items() if task in others]
        raise ValueError(
            f"{TITLES[task]} has no pipeline for models of {denoiser.family.title}; use one of {' or '.join(served)}."
        )
    return tasks[task]


def another_pipeline(task: str, pipe: DiffusionPipeline, **changes: Any) -> Any:
    """A pipeline for another task around the same modules, without progress bars.

    It has no safety checker: methods that are not pipelines cannot have one, and its black images would count against
    the others.

    Args:
        task: See `pipeline_class`.
        pipe: The loaded model.
        changes: Components in place of the pipeline's own.
    """
    unchecked = {"safety_checker": None, "requires_safety_checker": False, "add_watermarker": False}
    made = pipeline_around(pipeline_class(task, pipe), pipe, **{**unchecked, **changes})
    made.set_progress_bar_config(disable=True)
    return made
