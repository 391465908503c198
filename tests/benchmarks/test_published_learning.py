from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.published_learning import learn_as_published
from benchmarks.stylediffusion_learning import in_double_precision, largest_disagreement
from semantic_edit.mapping_networks import LearningSettings

PROMPT = "a red apple on grass"


@pytest.fixture(scope="module")
def pipe(make_style_pipe, make_unet, vae, text_encoder):
    """Models whose image tokens are as wide as the text's; not the shared ones, because the test casts them."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=8,
    )
    return make_style_pipe(
        image_encoder=CLIPVisionModelWithProjection(config).eval(),
        unet=make_unet(),
        vae=copy.deepcopy(vae),
        text_encoder=copy.deepcopy(text_encoder),
    )


@pytest.mark.filterwarnings("ignore:The learning did not converge")
def test_the_plain_loop_computes_the_same_losses_as_ours(pipe, picture):
    before = [parameter.clone() for parameter in pipe.unet.parameters()]
    assert largest_disagreement(pipe, (picture, PROMPT), steps=4, checked=3, inner_steps=4) < 1e-9
    for parameter, value in zip(pipe.unet.parameters(), before, strict=True):
        assert_close(parameter, value, rtol=0, atol=0)
        assert parameter.grad is None
    assert pipe.unet.dtype == torch.float32


def test_double_precision_ends_after_an_error(pipe):
    def fail() -> None:
        assert torch.zeros(1).float().dtype == pipe.unet.dtype == torch.float64
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"), in_double_precision(pipe):
        fail()
    assert torch.zeros(1).double().float().dtype == pipe.unet.dtype == torch.float32


def test_the_plain_loop_stops_early_and_counts(pipe, picture):
    settings = replace(LearningSettings.published(), inner_steps=5, stop_below=1e9)
    done = learn_as_published(pipe, picture, PROMPT, 3, 7.5, settings)
    assert done.backward_evaluations == 3  # one a step
    assert done.forward_evaluations == 3 + 3 * (
        1 + 1 + 2
    )  # inversion; unconditional, update, closing the loop


def test_widths_that_the_published_networks_cannot_join_are_refused(make_style_pipe, picture):
    with pytest.raises(ValueError, match=r"the text's is 32, the image's 24"):
        learn_as_published(make_style_pipe(), picture, PROMPT, 2, 7.5, LearningSettings.published())
