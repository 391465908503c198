from __future__ import annotations

from types import SimpleNamespace

import pytest
from diffusers import StableDiffusionPipeline

from semantic_edit.denoisers import StableDiffusionDenoiser, StableDiffusionXLDenoiser, denoiser_of


def test_a_pipelines_family_is_told_by_its_components(pipe, make_xl_pipe):
    theirs = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    for loaded, kind in (
        (pipe, StableDiffusionDenoiser),
        (theirs, StableDiffusionDenoiser),
        (make_xl_pipe(), StableDiffusionXLDenoiser),
        (make_xl_pipe(text_encoder_2=None, tokenizer_2=None), StableDiffusionXLDenoiser),
    ):
        denoiser = denoiser_of(loaded)
        assert type(denoiser) is kind
        assert denoiser.pipe is loaded
        denoiser.check()


def test_a_pipeline_without_a_unet_is_refused():
    with pytest.raises(ValueError, match=r"a SimpleNamespace, and only models of .* are served"):
        denoiser_of(SimpleNamespace(transformer=None))
