"""A script written for diffusers' StableDiffusionDiffEditPipeline runs with the class name changed."""

import inspect

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import DDIMInverseScheduler, StableDiffusionDiffEditPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from semantic_edit.pipelines.diffedit import DiffEditPipeline

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"


@pytest.fixture
def upstream(pipe, monkeypatch):
    """The original, but encoding images by the posterior's mode as we do, so that it draws the same noise."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    components = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    inverse = DDIMInverseScheduler.from_config(pipe.scheduler.config)
    original = StableDiffusionDiffEditPipeline(
        **components, inverse_scheduler=inverse, requires_safety_checker=False
    )
    original.set_progress_bar_config(disable=True)
    return original


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ratio", [1.5, 3.0])
def test_masks_of_one_picture_are_equal(pipe, upstream, picture, seed, ratio):
    options = {
        "target_prompt": TARGET,
        "source_prompt": SOURCE,
        "num_maps_per_mask": 4,
        "mask_thresholding_ratio": ratio,
    }
    own = pipe.generate_mask(
        picture, generator=torch.Generator().manual_seed(seed), preset="paper", **options
    )
    theirs = upstream.generate_mask(picture, generator=torch.Generator().manual_seed(seed), **options)
    assert own.dtype == theirs.dtype
    assert own.shape == theirs.shape == (1, 6, 8)
    np.testing.assert_array_equal(own, theirs)
    assert ratio == 3.0 or own.any()


def test_the_noisier_levels_of_an_inversion_are_equal(pipe, upstream, picture):
    """With "leading" spacing, the two differ only in the level at which the first step starts."""
    own = pipe.invert(SOURCE, picture, num_inference_steps=50, inpaint_strength=0.2, preset="paper").latents
    theirs = upstream.invert(
        SOURCE, picture, num_inference_steps=50, inpaint_strength=0.2, guidance_scale=1.0
    ).latents
    assert own.shape == (1, 11, 4, 6, 8)
    assert theirs.shape == (1, 10, 4, 6, 8)
    torch.testing.assert_close(own[:, :-1], theirs, rtol=0, atol=0.05)


def test_edits_are_close(pipe, upstream, picture):
    mask = np.zeros((1, 6, 8), dtype=np.int64)
    mask[..., 4:] = 1
    images = []
    for one in (pipe, upstream):
        paper = {"preset": "paper"} if one is pipe else {}
        latents = one.invert(image=picture, prompt="", guidance_scale=1.0, **paper).latents
        given = {"prompt": TARGET, "mask_image": mask, "image_latents": latents, "output_type": "np"}
        images.append(one(**given, **paper).images)
    assert np.abs(images[0] - images[1]).mean() < 0.02


def test_a_script_for_the_original_runs(make_pipe, picture):
    pipeline = make_pipe()
    pipeline.inverse_scheduler = DDIMInverseScheduler.from_config(pipeline.scheduler.config)
    mask_image = pipeline.generate_mask(
        image=picture,
        source_prompt=SOURCE,
        target_prompt=TARGET,
        num_inference_steps=4,
        output_type="pil",
        generator=torch.manual_seed(0),
    )
    assert isinstance(mask_image[0], PIL.Image.Image)
    assert mask_image[0].size == (8, 6)
    seen = []
    inverted = pipeline.invert(
        image=picture,
        prompt=SOURCE,
        num_inference_steps=4,
        decode_latents=True,
        callback=lambda step, timestep, latents: seen.append((step, timestep)),
        callback_steps=2,
    )
    assert [step for step, _ in seen] == [0, 2]
    assert len(inverted.images) == inverted.latents.shape[1] == 4
    seen.clear()
    result = pipeline(
        prompt=TARGET,
        mask_image=mask_image,
        image_latents=inverted.latents,
        num_inference_steps=4,
        negative_prompt="a mug",
        callback=lambda step, timestep, latents: seen.append(latents.shape),
        eta=0.0,
        return_dict=False,
    )
    assert len(seen) == 3
    assert result[0][0].size == (64, 48)
    assert result[1] is None


def test_embeddings_stand_for_prompts(pipe, picture):
    source, target, empty = pipe.encode_prompt([SOURCE, TARGET, ""], "cpu", 1, False)[0].split(1)
    by_text = pipe(picture, TARGET, SOURCE, num_inference_steps=4, generator=torch.manual_seed(0))
    by_embeds = pipe(
        picture,
        prompt_embeds=target,
        source_prompt_embeds=source,
        negative_prompt_embeds=empty,
        num_inference_steps=4,
        generator=torch.manual_seed(0),
    )
    assert torch.equal(by_text.mask, by_embeds.mask)
    difference = np.asarray(by_text.images[0]).astype(int) - np.asarray(by_embeds.images[0])
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("form", ["tensor", "list", "flat"])
def test_image_latents_come_in_three_forms(pipe, pictures, form):
    latents = pipe.invert(image=pictures, num_inference_steps=4).latents
    forms = {"tensor": latents, "list": list(latents.split(1)), "flat": latents.flatten(0, 1)}
    mask = torch.zeros(6, 8)
    mask[3:] = 1
    options = {"prompt": TARGET, "mask_image": mask, "num_inference_steps": 4, "output_type": "np"}
    expected = pipe(image_latents=latents, **options).images
    np.testing.assert_array_equal(pipe(image_latents=forms[form], **options).images, expected)


def test_the_callers_mask_is_not_written_to(pipe, picture):
    mask = torch.full((1, 1, 6, 8), 0.4)
    mask[..., 4:] = 0.6
    before = mask.clone()
    result = pipe(picture, TARGET, mask_image=mask, num_inference_steps=2, preset="paper")
    assert torch.equal(mask, before)
    torch.testing.assert_close(result.mask, before)


def test_inversion_may_be_regularized(pipe, picture):
    options = {"image": picture, "num_inference_steps": 4, "inpaint_strength": 0.5}
    plain = pipe.invert(**options).latents
    adjusted = pipe.invert(num_reg_steps=1, generator=torch.Generator().manual_seed(0), **options).latents
    assert adjusted.shape == plain.shape
    assert torch.isfinite(adjusted).all()
    assert not torch.equal(adjusted, plain)


def test_every_argument_of_the_original_is_accepted():
    for name in ("__call__", "generate_mask", "invert"):
        theirs = inspect.signature(getattr(StableDiffusionDiffEditPipeline, name)).parameters
        own = inspect.signature(getattr(DiffEditPipeline, name)).parameters
        assert set(theirs) <= set(own), name


def test_latents_are_ignored_as_in_the_original(pipe, picture):
    with pytest.warns(UserWarning, match="`latents` has no effect"):
        pipe(picture, TARGET, mask_image=torch.eye(8)[:6], latents=torch.zeros(1), num_inference_steps=2)
