"""Laws of the newer methods of the comparison: each gives back what it promises to, and is what it stands for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForInpainting,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    LEditsPPPipelineStableDiffusion,
    LEditsPPPipelineStableDiffusionXL,
    StableDiffusionPipeline,
)
from torch.testing import assert_close

from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.direct_inversion import DirectInversion
from semantic_edit.evaluation.edit_friendly import EditFriendly
from semantic_edit.evaluation.ledits import LEDITSPlusPlus
from semantic_edit.evaluation.masked_sdedit import MaskedSDEdit
from semantic_edit.evaluation.method import embeds_of, latents_of, preparing_generator, vae_reconstruction
from semantic_edit.evaluation.negative_prompt import NegativePromptInversion
from semantic_edit.evaluation.null_text import NullText, NullTextInversion
from semantic_edit.evaluation.prompt_to_prompt import PromptToPrompt
from semantic_edit.evaluation.word_swap import WordSwap
from tests.conftest import make_picture

pytestmark = pytest.mark.filterwarnings("ignore:The mask")

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
SAMPLER = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}


def silent(kind: type, pipe: DiffusionPipeline, **changes: Any) -> Any:
    options = {"add_watermarker": False} if "XL" in kind.__name__ else {"requires_safety_checker": False}
    components = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    made = kind(**{**components, **changes}, **options)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def stable_diffusion(make_pipe) -> StableDiffusionPipeline:
    """diffusers' own pipeline, as users load it."""
    return silent(StableDiffusionPipeline, make_pipe())


# The methods know no family: one holds their laws.
@pytest.fixture(scope="module", params=["Stable Diffusion", pytest.param("SDXL", marks=pytest.mark.slow)])
def loaded(request, stable_diffusion, make_xl_pipe) -> DiffusionPipeline:
    return stable_diffusion if request.param == "Stable Diffusion" else make_xl_pipe()


@pytest.fixture(scope="module")
def square():
    """LEDITS++ takes pictures whose sides are multiples of 32."""
    return make_picture(0, 64, 64)


def prepared_for(method, pipe, picture):
    (prepared,) = method.prepare(pipe, [picture], [SOURCE])
    return prepared


# Direct Inversion


def test_direct_inversion_reconstructs_what_the_autoencoder_does_bit_by_bit(loaded, picture):
    method = DirectInversion(4)
    prepared = prepared_for(method, loaded, picture)
    source, edit = method.decode(loaded, prepared, TARGET)
    assert torch.equal(source, prepared.latents[0, 0])
    assert not torch.equal(edit, source)
    best = vae_reconstruction(denoiser_of(loaded), picture)
    assert np.array_equal(method.reconstruct(loaded, prepared), best)


def test_direct_inversion_changes_only_whose_attention_an_edit_takes(loaded, picture):
    prepared = prepared_for(DirectInversion(4), loaded, picture)
    for taus, is_same in ({"tau_c": 0.0, "tau_s": 0.0}, True), ({"tau_c": 1.0, "tau_s": 0.0}, False):
        direct, drifting = (
            kind(4, **taus).decode(loaded, prepared, TARGET)[1] for kind in (DirectInversion, PromptToPrompt)
        )
        assert torch.allclose(direct, drifting, rtol=1e-4, atol=1e-4) is is_same


# Negative-prompt inversion


def test_negative_prompt_inversion_is_null_text_inversion_that_has_learned_the_source_prompt(
    stable_diffusion, picture
):
    method = NegativePromptInversion(4, tau_c=0.5, tau_s=0.75)
    prepared = prepared_for(method, stable_diffusion, picture)
    embeds = embeds_of(denoiser_of(stable_diffusion), [SOURCE]).prompt_embeds.expand(4, -1, -1)
    learned = NullText(SOURCE, prepared.latents[-1], embeds, (), 0)
    null_text = NullTextInversion(4, tau_c=0.5, tau_s=0.75)
    expected = null_text.decode(stable_diffusion, learned, TARGET)
    assert_close(method.decode(stable_diffusion, prepared, TARGET), expected, rtol=0, atol=1e-6)


def test_negative_prompt_inversion_guides_a_picture_nowhere(loaded, picture):
    method, unguided = NegativePromptInversion(4), WordSwap(4, guidance_scale=1.0)
    prepared = prepared_for(method, loaded, picture)
    both = method.decode(loaded, prepared, SOURCE)
    assert_close(both, unguided.decode(loaded, prepared, SOURCE).expand(2, -1, -1, -1), rtol=1e-3, atol=1e-3)


# Edit-friendly DDPM inversion


@pytest.mark.parametrize(("prediction_type", "ends_clean"), [("epsilon", True), ("v_prediction", False)])
def test_edit_friendly_inversion_returns_the_picture(make_pipe, picture, prediction_type, ends_clean):
    scheduler = DDIMScheduler.from_config(
        make_pipe().scheduler.config, set_alpha_to_one=ends_clean, prediction_type=prediction_type
    )
    pipe = silent(StableDiffusionPipeline, make_pipe(), scheduler=scheduler)
    best = vae_reconstruction(denoiser_of(pipe), picture)
    method = EditFriendly(4, guidance_scale=3.5, strength=1.0)
    prepared = prepared_for(method, pipe, picture)
    assert np.abs(method.reconstruct(pipe, prepared) - best).max() < 1e-4
    for strength in (0.5, 1.0):
        own = replace(method, strength=strength)
        clean = latents_of(denoiser_of(pipe), [picture])
        assert_close(own.decode(pipe, prepared, SOURCE), clean, rtol=0, atol=1e-4)
        assert (own.decode(pipe, prepared, TARGET) - clean).abs().max() > 0.01


@torch.no_grad()
def test_edit_friendly_inversion_takes_the_steps_of_diffusers_ddpm(loaded, picture):
    method = EditFriendly(4, guidance_scale=5.0, strength=0.75)
    prepared = prepared_for(method, loaded, picture)
    denoiser = denoiser_of(loaded)
    scheduler = DDIMScheduler.from_config(loaded.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(4)
    empty, told = (embeds_of(denoiser, [text]) for text in ("", TARGET))
    latents = prepared.latents[3]
    for level, timestep in zip((3, 2, 1), scheduler.timesteps[1:], strict=True):
        away, towards = (denoiser.predict(latents, timestep, one) for one in (empty, told))
        deviation = scheduler._get_variance(timestep, timestep - 250).sqrt()
        noise = prepared.added[level - 1] / deviation
        guided = away + 5.0 * (towards - away)
        latents = scheduler.step(guided, timestep, latents, eta=1.0, variance_noise=noise).prev_sample
    assert_close(method.decode(loaded, prepared, TARGET), latents, rtol=1e-4, atol=1e-4)


def test_the_levels_of_edit_friendly_inversion_have_independent_noise(stable_diffusion, picture):
    prepared = prepared_for(EditFriendly(8), stable_diffusion, picture)
    schedule = denoiser_of(stable_diffusion).schedule(8)
    noises = [
        (prepared.latents[level] - schedule.signal[level] * prepared.latents[0]) / schedule.noise[level]
        for level in range(4, 9)
    ]
    correlations = torch.corrcoef(torch.stack([noise.flatten() for noise in noises]))
    assert (correlations - torch.eye(5)).abs().max() < 0.3  # of 192 numbers each


def test_edit_friendly_inversion_of_less_than_one_step_is_refused(stable_diffusion):
    with pytest.raises(ValueError, match=r"`strength` 0.2 of `num_inference_steps` 4 is less than one step"):
        EditFriendly(4, strength=0.2).check_steps(stable_diffusion)


# LEDITS++


@pytest.mark.parametrize("family", ["Stable Diffusion", "SDXL"])
def test_ledits_is_diffusers_own_and_leaves_the_unet_as_it_was(make_pipe, make_xl_pipe, square, family):
    pipe, kind = make_pipe(), LEditsPPPipelineStableDiffusion
    if family == "SDXL":
        pipe = make_xl_pipe()
        kind = LEditsPPPipelineStableDiffusionXL
    processors, config = dict(pipe.unet.attn_processors), dict(pipe.scheduler.config)
    method = LEDITSPlusPlus(4, 5.0, skip=0.25, threshold=0.6)
    prepared = prepared_for(method, pipe, square)
    edited = method.edited(pipe, prepared, TARGET)
    kept = method.decode(prepared, None)
    assert pipe.unet.attn_processors == processors
    assert dict(pipe.scheduler.config) == config
    scheduler = DPMSolverMultistepScheduler.from_config(config, **SAMPLER)
    direct = silent(kind, pipe, scheduler=scheduler)
    direct.invert(square, num_inversion_steps=4, skip=0.25, generator=preparing_generator())
    direct.unet.set_attn_processor(dict(processors))  # the inversion leaves others that round differently
    expected = direct(
        editing_prompt=[TARGET],
        edit_guidance_scale=5.0,
        edit_threshold=0.6,
        use_intersect_mask=False,
        output_type="latent",
    ).images
    assert torch.equal(edited.latents, expected)
    assert torch.equal(kept, direct(use_intersect_mask=False, output_type="latent").images)
    assert not torch.equal(kept, expected)


def test_ledits_puts_the_processors_back_after_an_error(stable_diffusion, square, monkeypatch):
    method = LEDITSPlusPlus(2)
    prepared = prepared_for(method, stable_diffusion, square)
    processors = dict(stable_diffusion.unet.attn_processors)
    monkeypatch.setattr(prepared.pipe, "scheduler", None)
    with pytest.raises(AttributeError):
        method.decode(prepared, [TARGET])
    assert stable_diffusion.unet.attn_processors == processors


def test_ledits_refuses_numbers_that_it_cannot_use(stable_diffusion):
    with pytest.raises(ValueError, match=r"`threshold` must be a number from 0 to 1, got 1\.5"):
        LEDITSPlusPlus(threshold=1.5)
    with pytest.raises(ValueError, match=r"`skip` must be a number from 0 to 1, got -0\.1"):
        LEDITSPlusPlus(skip=-0.1)
    with pytest.raises(ValueError, match=r"`skip` 0.1 to `num_inference_steps` 950, which makes 1045 steps"):
        LEDITSPlusPlus(950).check_steps(stable_diffusion)


# SDEdit in our mask


def test_masked_sdedit_is_diffusers_inpainting_in_the_mask_that_locate_finds(loaded, picture):
    method = MaskedSDEdit(4, 5.0, strength=0.75)
    prepared = prepared_for(method, loaded, picture)
    edited = method.edited(loaded, prepared, TARGET, seed=3)
    generator = torch.Generator().manual_seed(3)
    mask = method.located(loaded, prepared, TARGET, generator)
    assert (edited.mask == (mask > 0.5)).all()
    assert 0 < edited.mask.mean() < 1
    scheduler = DDIMScheduler.from_config(loaded.scheduler.config, clip_sample=False)
    expected = AutoPipelineForInpainting.from_pipe(loaded, scheduler=scheduler)(
        prompt=TARGET,
        image=prepared.latents,
        mask_image=torch.from_numpy(edited.mask).float()[None, None],
        masked_image_latents=torch.zeros_like(prepared.latents),
        height=48,
        width=64,
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=generator,
        output_type="latent",
    ).images
    assert_close(edited.latents, expected, rtol=1e-4, atol=1e-4)
    pixels, own = (np.asarray(one).astype(int) for one in (edited.image, picture))
    assert (pixels[mask == 0] == own[mask == 0]).all()
    assert (pixels[mask == 1] != own[mask == 1]).any()
