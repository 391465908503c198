from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from PIL import Image
from torch.testing import assert_close

from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.method import (
    embeds_of,
    floats_of,
    image_of,
    latents_of,
    vae_reconstruction,
)
from semantic_edit.evaluation.metrics import psnr
from semantic_edit.evaluation.null_text import NullTextInversion
from semantic_edit.evaluation.restyled import LearnedImage, Restyled
from semantic_edit.evaluation.sdedit import SDEdit
from semantic_edit.evaluation.word_swap import WordSwap
from semantic_edit.still_life import model_path
from semantic_edit.still_life.scenes import sample_scene

pytestmark = pytest.mark.filterwarnings("ignore:The learning did not converge")  # untrained models need not

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
METHODS = [SDEdit(4), WordSwap(4), NullTextInversion(3, inner_steps=2), Restyled(3)]


@pytest.fixture(scope="module")
def stable_diffusion(make_style_pipe) -> StableDiffusionPipeline:
    """diffusers' own pipeline, as users load it."""
    pipe = StableDiffusionPipeline(**make_style_pipe().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# The methods know no family: one holds their laws, and each is edited with.
OF_EACH_FAMILY = pytest.mark.parametrize("loaded", ["Stable Diffusion", "SDXL"], indirect=True)


@pytest.fixture(scope="module", params=["Stable Diffusion", pytest.param("SDXL", marks=pytest.mark.slow)])
def loaded(request, stable_diffusion, make_xl_pipe, image_encoder, feature_extractor) -> DiffusionPipeline:
    """A model of each family, as users load it."""
    if request.param == "Stable Diffusion":
        return stable_diffusion
    return make_xl_pipe(image_encoder=image_encoder, feature_extractor=feature_extractor)


@pytest.fixture(scope="module")
def still_life() -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(model_path())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def state(pipe: Any) -> dict[str, Any]:
    """Everything in the components that a method might change."""
    return {
        "processors": dict(pipe.unet.attn_processors),
        "timesteps": pipe.scheduler.timesteps.clone(),
        "steps": pipe.scheduler.num_inference_steps,
        "grads": [parameter.requires_grad for parameter in pipe.unet.parameters()],
        "sums": [parameter.sum().item() for parameter in pipe.unet.parameters()],
        "dtype": pipe.unet.dtype,
    }


@OF_EACH_FAMILY
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_each_method_edits_and_leaves_the_components_as_they_were(loaded, picture, method):
    before = state(loaded)
    edited = method(loaded, picture, SOURCE, TARGET, seed=3)
    assert edited.size == picture.size
    assert edited.mode == "RGB"
    after = state(loaded)
    assert_close(after.pop("timesteps"), before.pop("timesteps"))
    assert after == before


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_each_method_gives_the_same_picture_again_and_another_for_another_prompt(loaded, picture, method):
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    first, again, other = (
        np.asarray(method.edit(loaded, prepared, prompt, seed=1)) for prompt in (TARGET, TARGET, "a blue mug")
    )
    assert (first == again).all()
    assert (first != other).any()


@torch.no_grad()
def test_a_word_swap_that_swaps_nothing_is_the_ddim_round_trip(loaded, picture):
    method = WordSwap(5, guidance_scale=1.0)
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    denoiser = denoiser_of(loaded)
    assert_close(prepared.latents[0], latents_of(denoiser, [picture]))
    scheduler = DDIMScheduler.from_config(loaded.scheduler.config)  # diffusers' own way back
    scheduler.set_timesteps(5)
    latents, embeds = prepared.latents[-1], embeds_of(denoiser, [SOURCE])
    for timestep in scheduler.timesteps:
        latents = scheduler.step(denoiser.predict(latents, timestep, embeds), timestep, latents).prev_sample
    assert_close(method.reconstruct(loaded, prepared), floats_of(denoiser, latents), rtol=0, atol=1e-4)
    returned = np.asarray(image_of(denoiser, latents)).astype(int)
    assert np.abs(np.asarray(method.edit(loaded, prepared, SOURCE)) - returned).max() <= 1


def test_pictures_prepared_together_are_prepared_as_if_alone(loaded, pictures):
    prompts = [SOURCE, TARGET, "a mug"]
    for method in (WordSwap(3), NullTextInversion(3, inner_steps=3)):
        together = method.prepare(loaded, pictures, prompts)
        for index, one in enumerate(together):
            (alone,) = method.prepare(loaded, pictures[index : index + 1], prompts[index : index + 1])
            # Adam's first steps are as long for a gradient of rounding errors as for any other
            assert_close(one.latents, alone.latents, rtol=1e-4, atol=1e-4)
            assert one.prompt == alone.prompt == prompts[index]


def test_null_text_inversion_lowers_the_error_of_its_steps(loaded, picture):
    (learned,) = NullTextInversion(4).prepare(loaded, [picture], [SOURCE])
    before, after = torch.tensor(learned.errors).unbind(-1)
    assert (after <= before).all()
    assert (after < before).any()
    assert learned.embeds.shape[0] == 4
    assert 4 <= learned.backward_evaluations <= 40


def test_null_text_inversion_reconstructs_better_than_plain_guidance(still_life):
    """With the trained model, because the inversion of an untrained one is meaningless."""
    scene = sample_scene(0, "validation")
    image = Image.fromarray(scene.render())
    best = vae_reconstruction(denoiser_of(still_life), image)
    reached = {}
    for method in (WordSwap(4), NullTextInversion(4, inner_steps=5)):
        (prepared,) = method.prepare(still_life, [image], [scene.caption(0)])
        reached[type(method)] = psnr(method.reconstruct(still_life, prepared), best)
    assert reached[NullTextInversion] > reached[WordSwap] + 1


def test_null_text_inversion_at_equal_prompts_edits_to_its_reconstruction(loaded, picture):
    method = NullTextInversion(3, inner_steps=2, tau_c=0.5)
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    source, target = method.decode(loaded, prepared, SOURCE)
    assert_close(target, source, rtol=1e-4, atol=1e-4)


def test_without_inner_steps_null_text_inversion_is_plain_guidance(loaded, picture):
    plain, untrained = WordSwap(3), NullTextInversion(3, inner_steps=0)
    (inverted,), (learned,) = (one.prepare(loaded, [picture], [SOURCE]) for one in (plain, untrained))
    assert_close(
        untrained.reconstruct(loaded, learned), plain.reconstruct(loaded, inverted), rtol=0, atol=1e-4
    )


def test_a_null_text_that_was_good_enough_is_left_alone(loaded, picture, monkeypatch):
    monkeypatch.setattr("semantic_edit.evaluation.null_text.STOP_BELOW", 1e9)
    (learned,) = NullTextInversion(3).prepare(loaded, [picture], [SOURCE])
    assert learned.backward_evaluations == 3  # each step stops after its first update


@pytest.mark.parametrize("confined", [False, True])
def test_a_learned_picture_edits_as_the_pipeline_does(
    stable_diffusion, make_style_pipe, learned, picture, confined
):
    taus = {"tau_v": 0.5, "tau_c": 0.25, "tau_s": 0.75, "tau_u": 1.0}
    method, prepared = Restyled(4, **taus, confined=confined), LearnedImage(picture, learned)
    seed = torch.Generator().manual_seed(3)
    laid = {"mask_image": "auto", "image": picture, "preserve_background": True, "generator": seed}
    direct = make_style_pipe()(TARGET, mapping_network=learned, **taus, **(laid if confined else {}))
    edited = method.edited(stable_diffusion, prepared, TARGET, seed=3)
    assert (np.asarray(edited.image) == np.asarray(direct.images[0])).all()
    assert (edited.mask is not None) == confined
    assert method.backward_evaluations(prepared) == 12


@OF_EACH_FAMILY
def test_sdedit_is_diffusers_own(loaded, picture):
    scheduler = DDIMScheduler.from_config(loaded.scheduler.config, clip_sample=False)
    upstream = AutoPipelineForImage2Image.from_pipe(loaded, scheduler=scheduler)
    expected = upstream(
        prompt=TARGET,
        image=latents_of(denoiser_of(loaded), [picture]),
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(2),
    ).images[0]
    edited = SDEdit(4, 5.0, strength=0.75)(loaded, picture, SOURCE, TARGET, seed=2)
    assert np.abs(np.asarray(edited).astype(int) - np.asarray(expected)).max() <= 1


def test_sdedit_clips_nothing_where_the_scheduler_does_not_say_so(make_xl_pipe, picture):
    """diffusers' DDIM clips by default, and only its Stable Diffusion image-to-image pipelines turn that off."""
    edits = []
    for scheduler in (
        EulerDiscreteScheduler(steps_offset=1),
        DDIMScheduler(clip_sample=False, steps_offset=1),
    ):
        pipe = make_xl_pipe(scheduler=scheduler)
        edits.append(np.asarray(SDEdit(4, strength=0.75)(pipe, picture, SOURCE, TARGET, seed=2)))
    assert (edits[0] == edits[1]).all()


def test_a_strength_of_less_than_one_step_is_refused(loaded, picture):
    with pytest.raises(ValueError, match=r"`strength` 0.2 of `num_inference_steps` 4 is less than one step"):
        SDEdit(4, strength=0.2)(loaded, picture, SOURCE, TARGET)


def test_methods_share_a_preparation_that_does_not_depend_on_what_differs():
    swap, style = WordSwap(5), Restyled(5)
    assert swap.preparation == replace(swap, guidance_scale=3.0).preparation
    assert style.preparation == replace(style, tau_v=0.1, tau_u=0.0).preparation
    assert style.preparation != replace(style, variant="direct").preparation
    assert style.preparation != replace(style, guidance_scale=3.0).preparation
    assert swap.preparation != style.preparation
