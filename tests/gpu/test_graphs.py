"""Replayed graphs compute what the UNet computes, and notice when it changes."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig

from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.pipelines.graphs import cuda_graphs

pytestmark = pytest.mark.gpu

TARGET = "a green pear on grass"


@pytest.fixture
def edit(picture):
    def run(pipe, **options):
        given = {"num_inference_steps": 4, "output_type": "latent", **options}
        generator = torch.Generator().manual_seed(0)
        return pipe(picture, TARGET, "a red apple on grass", generator=generator, **given).images

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_edit_keeps_its_bits(on_gpu, pipe, edit, dtype):
    moved = on_gpu(pipe, dtype)
    expected = edit(moved)
    with cuda_graphs(moved.unet):
        assert torch.equal(edit(moved), expected)
        with torch.inference_mode():
            assert torch.equal(edit(moved), expected)
        assert torch.equal(edit(moved), expected)
    assert "forward" not in vars(moved.unet)
    assert torch.equal(edit(moved), expected)


def test_a_model_that_changes_is_recorded_anew(on_gpu, pipe, edit):
    moved = on_gpu(pipe)
    moved.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    changes = [
        lambda: None,
        moved.unet.disable_lora,
        moved.unet.enable_lora,
        lambda: moved.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6),
        moved.unet.disable_freeu,
        lambda: moved.unet.to(memory_format=torch.channels_last),
    ]
    replayed, plain = [], []
    with cuda_graphs(moved.unet):
        for change in changes:
            change()
            replayed.append(edit(moved))
            replayed.append(edit(moved, cross_attention_kwargs={"scale": 0.5}))
    moved.unet.to(memory_format=torch.contiguous_format)
    for change in changes:
        change()
        plain += [edit(moved), edit(moved, cross_attention_kwargs={"scale": 0.5})]
    for one, other in zip(replayed, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert not torch.allclose(plain[0], plain[2], atol=1e-4)


def test_stylediffusion_is_not_replayed(on_gpu, style_pipe, learned):
    moved = on_gpu(style_pipe)
    expected = moved(TARGET, learned, output_type="pt").images
    with cuda_graphs(moved.unet):
        assert torch.equal(moved(TARGET, learned, output_type="pt").images, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_learning_replayed_learns_alike(on_gpu, style_pipe, pictures, dtype):
    """Two images, the second of which may stop early in a step."""
    moved = on_gpu(style_pipe, dtype)
    settings = LearningSettings(inner_steps=3, stop_below=0.02, converged_below=100.0, combine=True)

    def learn():
        return moved.learn_mapping(pictures[:2], "a red apple on grass", 3, settings=settings)

    expected = learn()
    with cuda_graphs(moved.unet):
        found = learn()
    tolerance = 1e-2 if dtype == torch.float32 else 0.2
    for one, other in zip(found, expected, strict=True):
        first, second = one.report.steps[0], other.report.steps[0]
        assert first.latent_before == pytest.approx(second.latent_before, rel=tolerance)
        assert first.attention_before == pytest.approx(second.attention_before, rel=tolerance)
        assert one.report.latent_errors == pytest.approx(other.report.latent_errors, rel=tolerance)
