"""A GPU gives the same results as a CPU up to rounding, whatever the memory layout of the model."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from benchmarks.tasks import recolouring
from semantic_edit.loading import load_pipeline
from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.options import ModelChoice

pytestmark = pytest.mark.gpu

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
# Mean difference of pixels in [0, 1]: three to four times what edits on a CPU in these precisions differ by.
TOLERANCES = {torch.float32: 5e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
PRECISIONS = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def assert_alike(there, here, dtype=torch.float32):
    """Check that images from the GPU equal those from the CPU."""
    assert there.device.type == "cuda"
    assert (there.cpu() - here).abs().mean() < TOLERANCES[dtype]


@pytest.fixture
def half_mask():
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., 4:] = 1
    return mask


@pytest.fixture
def edit(picture, half_mask):
    """An edit with a given mask: one that is found could differ by a cell where two values lie on either side of the
    cut."""

    def run(pipe, **changes):
        options = {"mask_image": half_mask, "num_inference_steps": 4, "output_type": "pt", **changes}
        return pipe(picture, TARGET, SOURCE, **options)

    return run


@PRECISIONS
def test_diffedit_edits_alike(pipe, on_gpu, edit, dtype):
    moved = on_gpu(pipe, dtype)
    here, there = edit(pipe), edit(moved)
    assert_alike(there.images, here.images, dtype)
    assert there.trajectory.latents.dtype == torch.float32


@PRECISIONS
def test_the_still_life_model_finds_the_same_mask(dtype):
    task = recolouring()

    def edit(device, dtype):
        pipe = load_pipeline("diffedit", ModelChoice(device=device, dtype=dtype))
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 10, "num_maps_per_mask": 4, "output_type": "pt"}
        return pipe(task.image, task.prompt, task.source_prompt, generator=generator, **options)

    here, there = edit("cpu", "float32"), edit("cuda", str(dtype).removeprefix("torch."))
    first, second = here.mask > 0.5, there.mask.cpu() > 0.5
    assert first.any()
    assert (first & second).sum() >= 0.95 * (first | second).sum()
    assert_alike(there.soft_mask, here.soft_mask, dtype)
    assert_alike(there.images, here.images, dtype)


@PRECISIONS
def test_stylediffusion_edits_alike(style_pipe, learned, on_gpu, dtype):
    moved = on_gpu(style_pipe, dtype)
    here = style_pipe(TARGET, learned, output_type="pt")
    there = moved(TARGET, learned, output_type="pt")
    assert learned.device.type == "cpu"
    for name in ("images", "reconstruction"):
        assert_alike(getattr(there, name), getattr(here, name), dtype)


@PRECISIONS
def test_a_picture_is_learned_alike(style_pipe, on_gpu, picture, dtype):
    settings = LearningSettings(inner_steps=3, stop_below=0.0, converged_below=100.0)
    moved = on_gpu(style_pipe, dtype)
    here, there = (one.learn_mapping(picture, SOURCE, 4, settings=settings) for one in (style_pipe, moved))
    first, second = here.report.steps[0].latent_before[0], there.report.steps[0].latent_before[0]
    assert second == pytest.approx(first, rel=5 * TOLERANCES[dtype])
    assert torch.isfinite(torch.cat([value.flatten() for value in there.state_dict().values()])).all()
    assert there.report.latent_errors[0] < 2 * here.report.latent_errors[0] + TOLERANCES[dtype]


def test_gradient_checkpointing_learns_alike(style_pipe, on_gpu, picture):
    """The backward pass recomputes blocks in a thread of its own."""
    settings = LearningSettings(inner_steps=3, stop_below=0.0, converged_below=100.0)
    moved = on_gpu(style_pipe)
    plain, recomputed = (
        moved.learn_mapping(picture, SOURCE, 4, settings=settings, gradient_checkpointing=one)
        for one in (False, True)
    )
    assert recomputed.report.latent_errors == pytest.approx(plain.report.latent_errors, rel=5e-2)


def test_a_generator_of_the_cpu_draws_the_same_noise(pipe, on_gpu, picture):
    def soft_mask(pipe, device):
        generator = torch.Generator(device).manual_seed(0)
        return pipe(
            picture, TARGET, SOURCE, num_inference_steps=4, generator=generator, output_type="latent"
        ).soft_mask.cpu()

    moved = on_gpu(pipe)
    assert_close(soft_mask(moved, "cpu"), soft_mask(pipe, "cpu"), rtol=0, atol=2e-2)
    own = soft_mask(moved, "cuda")
    assert torch.equal(own, soft_mask(moved, "cuda"))
    assert not torch.equal(own, soft_mask(moved, "cpu"))


def test_an_edit_does_not_depend_on_its_neighbours(pipe, on_gpu, pictures):
    moved = on_gpu(pipe)

    def edit(*chosen):
        generators = [torch.Generator("cuda").manual_seed(7) for _ in chosen]
        return moved(
            list(chosen), TARGET, SOURCE, num_inference_steps=4, generator=generators, output_type="latent"
        )

    together, alone = edit(*pictures), edit(pictures[1])
    assert_close(together.soft_mask[1:2], alone.soft_mask, rtol=0, atol=1e-3)


def test_an_offloaded_model_edits_alike(pipe, style_pipe, learned, on_gpu, edit):
    for offload in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        moved, restyled = on_gpu(pipe).to("cpu"), on_gpu(style_pipe).to("cpu")
        for one in (moved, restyled):
            getattr(one, offload)()
        assert_alike(edit(moved).images, edit(pipe).images)
        here, there = (one(TARGET, learned, output_type="pt").images for one in (style_pipe, restyled))
        assert_alike(there, here)
        assert {parameter.device.type for parameter in moved.unet.parameters()} <= {"cpu", "meta"}


def test_channels_last_edits_alike(pipe, on_gpu, edit):
    moved = on_gpu(pipe)
    moved.unet.to(memory_format=torch.channels_last)
    moved.vae.to(memory_format=torch.channels_last)
    assert_alike(edit(moved).images, edit(pipe).images)


def test_a_compiled_unet_is_compiled_once(pipe, on_gpu, edit, monkeypatch):
    moved = on_gpu(pipe)
    moved.unet = torch.compile(moved.unet, backend="aot_eager")
    assert_alike(edit(moved).images, edit(pipe).images)
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    edit(moved, num_inference_steps=7)
