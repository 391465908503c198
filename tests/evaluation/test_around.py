from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from semantic_edit.denoisers import StableDiffusionDenoiser, StableDiffusionXLDenoiser, denoiser_of
from semantic_edit.evaluation.around import (
    DIFFEDIT,
    PIPELINES,
    STYLEDIFFUSION,
    another_pipeline,
    pipeline_class,
)
from semantic_edit.evaluation.method import embeds_of
from tests.flow.sd3 import make_sd3


class Checker(torch.nn.Module):
    """Stands in for a safety checker."""


@pytest.fixture
def stable_diffusion(make_style_pipe) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(**{**make_style_pipe().components, "safety_checker": Checker()})


@pytest.mark.parametrize("task", [DIFFEDIT, STYLEDIFFUSION])
def test_another_pipeline_has_the_same_modules_and_no_safety_checker(stable_diffusion, task):
    made = another_pipeline(task, stable_diffusion)
    assert made.safety_checker is None
    assert type(made) is PIPELINES[StableDiffusionDenoiser][task]
    for name in stable_diffusion.components.keys() - {"safety_checker"}:
        assert getattr(made, name) is getattr(stable_diffusion, name)
    other = DDIMScheduler(clip_sample=False, steps_offset=1)
    assert another_pipeline(task, stable_diffusion, scheduler=other).scheduler is other
    assert made._progress_bar_config == {"disable": True}


@pytest.mark.parametrize("task", [DIFFEDIT, STYLEDIFFUSION])
@pytest.mark.parametrize("zeros", [True, False])
def test_another_pipeline_of_sdxl_has_the_same_modules_and_options(
    make_xl_pipe, image_encoder, feature_extractor, task, zeros
):
    seeing = {"image_encoder": image_encoder, "feature_extractor": feature_extractor}
    pipe = make_xl_pipe(force_zeros_for_empty_prompt=zeros, **seeing)
    made = another_pipeline(task, pipe)
    assert type(made) is PIPELINES[StableDiffusionXLDenoiser][task]
    for name, part in pipe.components.items():
        assert getattr(made, name) is part
    assert made.config.force_zeros_for_empty_prompt is zeros


@pytest.mark.parametrize("zeros", [True, False])
def test_the_empty_prompt_of_sdxl_is_what_its_pipeline_has_for_none(make_xl_pipe, zeros):
    pipe = make_xl_pipe(force_zeros_for_empty_prompt=zeros)
    told = embeds_of(denoiser_of(pipe), ["a red apple", ""])
    for tensor in told.tensors.values():
        assert tensor[0].any()
        assert bool(tensor[1].any()) is not zeros


def test_every_family_has_diffedit_and_a_task_that_it_lacks_is_refused():
    assert all(DIFFEDIT in tasks for tasks in PIPELINES.values())
    expected = "StyleDiffusion has no pipeline for models of Stable Diffusion 3; use one of Stable Diffusion"
    with pytest.raises(ValueError, match=expected):
        pipeline_class(STYLEDIFFUSION, make_sd3())
