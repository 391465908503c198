"""The papers' other baselines, and our own methods as methods of the comparison."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline
from PIL import Image
from torch.testing import assert_close
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.around import DIFFEDIT, another_pipeline
from semantic_edit.evaluation.diffedit_method import DiffEditMethod
from semantic_edit.evaluation.direct_inversion import DirectInversion
from semantic_edit.evaluation.edit_friendly import EditFriendly
from semantic_edit.evaluation.encode_decode import EncodeDecode
from semantic_edit.evaluation.flexit import FlexIT
from semantic_edit.evaluation.ilvr import ILVR
from semantic_edit.evaluation.masked_sdedit import MaskedSDEdit
from semantic_edit.evaluation.method import latents_of, vae_reconstruction
from semantic_edit.evaluation.null_text import NullTextInversion
from semantic_edit.evaluation.prompt_to_prompt import PromptToPrompt
from semantic_edit.evaluation.restyled import LearnedImage, Restyled
from semantic_edit.evaluation.word_swap import WordSwap
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork

pytestmark = [
    pytest.mark.filterwarnings("ignore:The learning did not converge"),  # untrained models need not
    pytest.mark.filterwarnings("ignore:The mask"),
]

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
EVERYWHERE = 1e-6  # as `mask_thresholding_ratio`, with which all of a picture lies in its mask
METHODS = [
    EncodeDecode(4, strength=0.75),
    DiffEditMethod(4, num_maps_per_mask=2),
    DiffEditMethod(4, num_maps_per_mask=2, encoding="noise", with_reference=False),
    ILVR(4, down_factor=2),
    PromptToPrompt(4),
    FlexIT(steps=3, text_is_projected=True),
    EditFriendly(3, strength=1.0),
    MaskedSDEdit(3),
]
NAMES = ["EncodeDecode", "DiffEdit", "DiffEdit without encoding", "ILVR", "PromptToPrompt", "FlexIT"]
NAMES += ["EditFriendly", "MaskedSDEdit"]


@pytest.fixture(scope="module")
def seeing(image_encoder, feature_extractor) -> Callable[[int], dict[str, Any]]:
    """Builds an image encoder and its processor, with embeddings of a given width."""

    def make(width: int) -> dict[str, Any]:
        torch.manual_seed(0)
        config = type(image_encoder.config)(**{**image_encoder.config.to_dict(), "projection_dim": width})
        encoder = CLIPVisionModelWithProjection(config).eval()
        return {"image_encoder": encoder, "feature_extractor": feature_extractor}

    return make


@pytest.fixture(scope="module")
def stable_diffusion(make_pipe, seeing) -> StableDiffusionPipeline:
    """diffusers' own pipeline, as users load it, with image embeddings as wide as the text's."""
    pipe = StableDiffusionPipeline(**{**make_pipe().components, **seeing(32)}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# The methods know no family: one holds their laws, and each is edited with.
OF_EACH_FAMILY = pytest.mark.parametrize("loaded", ["Stable Diffusion", "SDXL"], indirect=True)


@pytest.fixture(scope="module", params=["Stable Diffusion", pytest.param("SDXL", marks=pytest.mark.slow)])
def loaded(request, stable_diffusion, make_xl_pipe, seeing) -> DiffusionPipeline:
    """A model of each family, as users load it."""
    return stable_diffusion if request.param == "Stable Diffusion" else make_xl_pipe(**seeing(20))


def again(pipe: DiffusionPipeline, **changes: Any) -> DiffusionPipeline:
    """diffusers' own pipeline of the same class, without progress bars, with other components."""
    has_checker = isinstance(pipe, StableDiffusionPipeline)
    options = {"requires_safety_checker": False} if has_checker else {"add_watermarker": False}
    other = type(pipe)(**{**pipe.components, **changes}, **options)
    other.set_progress_bar_config(disable=True)
    return other


def state(pipe: Any) -> dict[str, Any]:
    """Everything in the components that a method might change."""
    models = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.image_encoder)
    parameters = [parameter for model in models for parameter in model.parameters()]
    return {
        "processors": dict(pipe.unet.attn_processors),
        "scheduler": dict(pipe.scheduler.config),
        "timesteps": pipe.scheduler.timesteps.tolist(),
        "steps": pipe.scheduler.num_inference_steps,
        "asked": [parameter.requires_grad for parameter in parameters],
        "gradients": [parameter.grad is None for parameter in parameters],
        "sums": [parameter.sum().item() for parameter in parameters],
        "types": [parameter.dtype for parameter in parameters],
        "training": [model.training for model in models],
        "components": {name: id(value) for name, value in pipe.components.items()},
    }


@contextmanager
def failing(module: torch.nn.Module, evaluation: int) -> Iterator[None]:
    """Makes a module raise at its n-th evaluation, counted from 1."""
    left = [evaluation]

    def count(*args: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("broken on purpose")

    handle = module.register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def assert_alike(first: Image.Image, second: Image.Image) -> None:
    """Check that images are equal up to rounding to 8 bits."""
    assert np.abs(pixels(first) - pixels(second)).max() <= 1


@OF_EACH_FAMILY
@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_each_method_edits_and_leaves_the_components_as_they_were(loaded, picture, method):
    before = state(loaded)
    edited = method(loaded, picture, SOURCE, TARGET, seed=3)
    assert edited.size == picture.size
    assert edited.mode == "RGB"
    assert state(loaded) == before


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_the_components_are_as_they_were_after_an_error_too(loaded, picture, method):
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    before = state(loaded)
    module = loaded.vae.decoder if isinstance(method, FlexIT) else loaded.unet
    with failing(module, 3), pytest.raises(RuntimeError, match="on purpose"):
        method.edit(loaded, prepared, TARGET)
    assert state(loaded) == before


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_each_method_gives_the_same_picture_again_and_another_for_another_prompt(loaded, picture, method):
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    first, again, other = (
        pixels(method.edit(loaded, prepared, prompt, seed=1)) for prompt in (TARGET, TARGET, "a blue mug")
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_pictures_prepared_together_edit_as_if_alone(loaded, pictures, method):
    prompts = [SOURCE, TARGET, "a mug"]
    together = method.prepare(loaded, pictures, prompts)
    (alone,) = method.prepare(loaded, pictures[1:2], prompts[1:2])
    assert_alike(method.edit(loaded, together[1], SOURCE), method.edit(loaded, alone, SOURCE))


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_a_reconstruction_is_floats_of_the_pictures_size(loaded, picture, method):
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    floats = method.reconstruct(loaded, prepared)
    if isinstance(method, ILVR | MaskedSDEdit) or getattr(method, "encoding", "") == "noise":
        assert floats is None
    else:
        assert floats.shape == (48, 64, 3)
        assert 0 <= floats.min() <= floats.max() <= 1


# Encode-Decode and DiffEdit


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_encode_decode_is_diffedit_with_a_mask_of_ones(loaded, picture, strength):
    plain = EncodeDecode(4, 5.0, strength=strength)
    masked = DiffEditMethod(4, 5.0, inpaint_strength=strength, mask_thresholding_ratio=EVERYWHERE)
    (prepared,) = masked.prepare(loaded, [picture], [SOURCE])
    edited = masked.edited(loaded, prepared, TARGET)
    assert edited.mask.all()
    assert_alike(plain(loaded, picture, SOURCE, TARGET), edited.image)
    (inverted,) = plain.prepare(loaded, [picture], [SOURCE])
    assert_close(plain.reconstruct(loaded, inverted), masked.reconstruct(loaded, prepared))


def test_encode_decode_through_all_levels_is_a_word_swap_from_the_empty_prompt(loaded, picture):
    edited = EncodeDecode(4, strength=1.0)(loaded, picture, SOURCE, TARGET)
    assert_alike(edited, WordSwap(4)(loaded, picture, "", TARGET))


def test_a_strength_of_less_than_one_step_is_refused(loaded, picture):
    with pytest.raises(ValueError, match=r"`strength` 0.2 of `num_inference_steps` 4 is less than one step"):
        EncodeDecode(4, strength=0.2)(loaded, picture, SOURCE, TARGET)


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize("preserve_background", [True, False])
@pytest.mark.parametrize("preset", ["paper", "default"])
def test_diffedit_edits_as_the_pipeline_does(loaded, picture, with_reference, preserve_background, preset):
    settings: dict[str, Any] = {
        "guidance_scale": 5.0,
        "inpaint_strength": 0.75,
        "mask_threshold": 0.4,
        "mask_thresholding_ratio": 2.0,
        "num_maps_per_mask": 3,
        "mask_encode_strength": 0.75,
        "preserve_background": preserve_background,
        "preset": preset,
    }
    method = DiffEditMethod(4, **settings, with_reference=with_reference)
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    done = method.edited(loaded, prepared, TARGET, seed=5)
    edited, mask = done.image, done.mask
    direct = another_pipeline(DIFFEDIT, loaded)(
        picture,
        TARGET,
        SOURCE if with_reference else "",
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(5),
        **settings,
    )
    assert_alike(edited, direct.images[0])  # the prompts are encoded in other batches
    assert (pixels(edited) == pixels(method.edit(loaded, prepared, TARGET, seed=5))).all()
    assert mask.shape == (48, 64)
    assert mask.dtype == bool
    assert mask.any()
    assert (mask == (direct.pixel_mask[0, 0] > 0.5).numpy()).all()


def test_the_mask_is_the_same_with_and_without_encoding(loaded, picture):
    with_it = DiffEditMethod(4, num_maps_per_mask=2, mask_threshold=0.8)
    edits = []
    for method in (with_it, replace(with_it, encoding="noise")):
        (prepared,) = method.prepare(loaded, [picture], [SOURCE])
        assert (prepared.trajectory is None) == (method.encoding == "noise")
        edits.append(method.edited(loaded, prepared, TARGET, seed=1))
    encoded, noised = edits
    assert (encoded.mask == noised.mask).all()
    assert (pixels(encoded.image) != pixels(noised.image)).any()


@pytest.mark.parametrize("encoding", ["inversion", "noise"])
def test_the_latents_of_diffedit_are_those_before_pixels_are_laid_over_them(loaded, picture, encoding):
    method = DiffEditMethod(
        4, num_maps_per_mask=2, mask_threshold=0.8, encoding=encoding, preserve_background=True
    )
    done = method.edited(loaded, method.prepare(loaded, [picture], [SOURCE])[0], TARGET, seed=1)
    direct = another_pipeline(DIFFEDIT, loaded)(
        picture,
        TARGET,
        SOURCE,
        encoding=encoding,
        num_inference_steps=4,
        mask_threshold=0.8,
        num_maps_per_mask=2,
        preset="paper",
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
    )
    assert_close(
        done.latents, direct.images, rtol=1e-4, atol=1e-4
    )  # the prompts are encoded in other batches
    outside = (direct.mask == 0).expand_as(done.latents)
    assert outside.any()
    assert torch.equal(done.latents[outside], latents_of(denoiser_of(loaded), [picture])[outside])


def test_an_edit_that_finds_nothing_has_the_pictures_latents(loaded, picture):
    method = DiffEditMethod.with_preset("default")
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    done = method.edited(loaded, prepared, SOURCE)
    assert not done.mask.any()
    assert_close(done.latents, latents_of(denoiser_of(loaded), [picture]), rtol=0, atol=0)


def test_masked_flow_edit_is_refused_where_there_is_no_flow(loaded):
    with pytest.raises(ValueError, match="`encoding='flowedit'` is for rectified flows"):
        DiffEditMethod(encoding="flowedit").check(loaded)


def test_one_inversion_serves_all_masks_and_encoding_ratios(stable_diffusion, picture, counted):
    loaded = stable_diffusion  # whose UNet is counted
    method = DiffEditMethod(4, num_maps_per_mask=2)
    changes: list[dict[str, Any]] = [
        {"mask_threshold": 0.3},
        {"inpaint_strength": 1.0, "with_reference": False},
        {"guidance_scale": 3.0, "mask_thresholding_ratio": 3.0},
    ]
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    assert counted.evaluations == 4
    for change in changes:
        other = replace(method, **change)
        assert other.preparation == method.preparation
        before = counted.samples
        edited = other.edit(loaded, prepared, TARGET)
        assert counted.samples - before == 2 * 2 + 2 * int(4 * other.inpaint_strength)  # none for inverting
        assert (pixels(edited) == pixels(other(loaded, picture, SOURCE, TARGET))).all()
    assert replace(method, encoding="noise").preparation != method.preparation


# ILVR


def test_ilvr_that_reduces_nothing_returns_what_the_autoencoder_leaves(loaded, picture):
    edited = ILVR(4, down_factor=1, refined=1.0)(loaded, picture, SOURCE, TARGET, seed=1)
    expected = np.round(255 * vae_reconstruction(denoiser_of(loaded), picture)).astype(int)
    assert np.abs(pixels(edited) - expected).max() <= 1


def test_ilvr_that_refines_nothing_is_diffusers_sampling(loaded, picture):
    method = ILVR(4, down_factor=2, refined=0.0)
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    edited = method.edit(loaded, prepared, TARGET, seed=1)
    fresh = again(loaded, scheduler=DDIMScheduler.from_config(loaded.scheduler.config))
    noise = torch.randn(prepared.shape, generator=torch.Generator().manual_seed(1))
    sampled = fresh(
        prompt=TARGET, height=48, width=64, num_inference_steps=4, guidance_scale=7.5, latents=noise
    ).images[0]
    assert_alike(edited, sampled)


def test_ilvr_takes_the_coarse_from_the_picture_and_the_fine_from_the_sample(loaded, picture):
    whole = ILVR(4, down_factor=2, refined=1.0)
    (clean,) = whole.prepare(loaded, [picture], [SOURCE])
    first, second = (whole.sample(loaded, clean, TARGET, seed) for seed in (1, 2))
    free = replace(whole, refined=0.0).sample(loaded, clean, TARGET, 1)

    def coarse(latents: torch.Tensor) -> float:
        return F.avg_pool2d(latents - clean, 2).abs().mean().item()

    assert coarse(first) < 0.4 * coarse(free)  # a bicubic filter applied twice is not the filter itself
    assert (first - second).abs().mean() > 2 * coarse(first)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"down_factor": 0}, "`down_factor` must be an integer from 1 to 1000000, got 0"),
        ({"refined": 1.5}, "`refined` must be a number from 0 to 1, got 1.5"),
    ],
)
def test_ilvr_refuses_knobs_that_mean_nothing(knobs, message):
    with pytest.raises(ValueError, match=message):
        ILVR(4, **knobs)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_what_is_not_finite_is_no_picture(loaded, picture, method):
    part = "vae" if isinstance(method, FlexIT) else "unet"
    model = copy.deepcopy(getattr(loaded, part))
    layer = model.decoder.conv_out if part == "vae" else model.conv_out
    torch.nn.init.constant_(layer.bias, float("nan"))
    broken = again(loaded, **{part: model})
    with pytest.raises(FloatingPointError, match="NaN or infinite values came from the "):
        method(broken, picture, SOURCE, TARGET)


# FlexIT


def test_flexit_without_a_target_stays_at_its_input(loaded, picture):
    method = FlexIT(
        steps=3,
        text_weight=0.0,
        image_weight=0.0,
        source_weight=0.0,
        perceptual_weight=0.0,
        text_is_projected=True,
    )
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    latents, losses = method.optimise(loaded, prepared, TARGET)
    assert_close(latents, latents_of(denoiser_of(loaded), [picture]), rtol=0, atol=0)
    assert losses == [0.0] * 3


def test_flexits_latent_regulariser_holds_it_near_its_input(loaded, picture):
    distances = []
    for latent_weight in (0.0, 100.0):
        method = FlexIT(steps=8, latent_weight=latent_weight, text_is_projected=True)
        (prepared,) = method.prepare(loaded, [picture], [SOURCE])
        latents, _ = method.optimise(loaded, prepared, TARGET)
        distances.append(((latents - prepared.latents).norm() / prepared.latents.norm()).item())
    free, held = distances
    assert held < 2.5 * 0.05  # about one step, which has that length
    assert free > 1.5 * held


def test_flexits_loss_falls_and_its_picture_nears_the_target(loaded, picture):
    method = FlexIT(steps=12, learning_rate=0.02, text_is_projected=True)
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    latents, losses = method.optimise(loaded, prepared, TARGET)
    assert len(losses) == 12
    assert min(losses[6:]) < losses[0] - 0.01
    lengths = (latents - prepared.latents).norm() / prepared.latents.norm()
    assert 0 < lengths <= 12 * 0.02 + 1e-4  # each step has a fixed length
    assert not latents.requires_grad


def test_flexit_sees_what_the_feature_extractor_prepares(loaded, picture, monkeypatch):
    seen = []
    tower = loaded.image_encoder.forward
    monkeypatch.setattr(
        loaded.image_encoder,
        "forward",
        lambda pixels, **known: (seen.append(pixels), tower(pixels, **known))[1],
    )
    method = FlexIT(steps=0, text_is_projected=True)
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    method.optimise(loaded, prepared, TARGET)
    expected = loaded.feature_extractor(images=[picture], return_tensors="pt").pixel_values
    assert seen[0].shape == expected.shape == (1, 3, 16, 16)
    assert (seen[0] - expected).abs().mean() < 0.03  # the extractor rounds to 8 bits


def test_a_subclass_of_flexit_brings_its_own_perceptual_distance(loaded, picture):
    class Strict(FlexIT):
        def perceptual_distance(self, pipe: Any, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return 7 + 0 * first.sum()

    knobs: dict[str, Any] = {"steps": 1, "perceptual_weight": 1.0, "text_is_projected": True}
    losses = []
    for method in (Strict(**knobs), FlexIT(**{**knobs, "perceptual_weight": 0.0})):
        (prepared,) = method.prepare(loaded, [picture], [SOURCE])
        losses += method.optimise(loaded, prepared, TARGET)[1]
    assert losses[0] - losses[1] == pytest.approx(7, abs=1e-4)


def test_flexit_names_what_a_pipeline_without_a_shared_space_lacks(
    stable_diffusion, make_pipe, make_style_pipe, picture
):
    cases = [
        (make_pipe(), True, "has no `image_encoder` with its `feature_extractor`"),
        (stable_diffusion, False, r"CLIPTextModel has no projection .* `text_is_projected=True`"),
        (make_style_pipe(), True, "text embeddings are 32 wide where those of its pictures are 16"),
    ]
    for pipe, projected, message in cases:
        with pytest.raises(ValueError, match=message):
            FlexIT(text_is_projected=projected)(pipe, picture, SOURCE, TARGET)


def test_flexit_takes_a_text_encoder_that_has_its_projection(make_style_pipe, text_encoder, picture):
    torch.manual_seed(0)
    config = type(text_encoder.config)(**{**text_encoder.config.to_dict(), "projection_dim": 16})
    pipe = StableDiffusionPipeline(
        **{**make_style_pipe().components, "text_encoder": CLIPTextModelWithProjection(config).eval()},
        requires_safety_checker=False,
    )
    edited = FlexIT(steps=1)(pipe, picture, SOURCE, TARGET)
    assert edited.size == picture.size


# Prompt-to-Prompt and StyleDiffusion


def test_prompt_to_prompt_at_equal_prompts_gives_the_inversions_reconstruction(loaded, picture):
    method, plain = PromptToPrompt(4), WordSwap(4)
    (prepared,) = method.prepare(loaded, [picture], [SOURCE])
    source, target = method.decode(loaded, prepared, SOURCE)
    assert_close(target, source, rtol=1e-4, atol=1e-4)
    expected = plain.reconstruct(loaded, prepared)
    assert_close(method.reconstruct(loaded, prepared), expected, rtol=0, atol=1e-4)
    assert_alike(method.edit(loaded, prepared, SOURCE), plain.edit(loaded, prepared, SOURCE))


def test_prompt_to_prompt_without_swaps_is_a_word_swap(loaded, picture):
    unswapped, swapped = PromptToPrompt(4, tau_c=0.0, tau_s=0.0), PromptToPrompt(4)
    (prepared,) = swapped.prepare(loaded, [picture], [SOURCE])
    assert unswapped.preparation == swapped.preparation
    edited = unswapped.edit(loaded, prepared, TARGET)
    assert_alike(edited, WordSwap(4).edit(loaded, prepared, TARGET))
    assert np.abs(pixels(edited) - pixels(swapped.edit(loaded, prepared, TARGET))).max() > 1


def test_prompt_to_prompt_is_null_text_inversion_that_learned_nothing(loaded, picture):
    edited = PromptToPrompt(3, tau_c=0.7, tau_s=0.4)(loaded, picture, SOURCE, TARGET)
    learned = NullTextInversion(3, tau_c=0.7, tau_s=0.4, inner_steps=0)(loaded, picture, SOURCE, TARGET)
    assert_alike(edited, learned)


def test_stylediffusion_with_the_texts_own_values_and_no_tau_u_is_direct_inversion(
    stable_diffusion, picture, learned, monkeypatch
):
    loaded = stable_diffusion  # with which it was learned
    monkeypatch.setattr(MappingNetwork, "value_embeds", lambda self, step, text: text)
    style = Restyled(4, tau_v=0.5, tau_c=0.75, tau_s=0.5, tau_u=0.0)
    plain = DirectInversion(4, tau_c=0.75, tau_s=0.5)
    prepared = LearnedImage(picture, learned)
    assert_alike(style.edit(loaded, prepared, TARGET), plain(loaded, picture, SOURCE, TARGET))
    with_tau_u = replace(style, tau_u=1.0).edit(loaded, prepared, TARGET)
    assert (pixels(with_tau_u) != pixels(style.edit(loaded, prepared, TARGET))).any()


@pytest.mark.parametrize("variant", ["modulate", "direct"])
def test_stylediffusion_learns_in_either_variant(loaded, picture, variant):
    settings = replace(LearningSettings.short(), stop_below=0.0)
    method = Restyled(2, variant=variant, settings=settings)
    (learned,) = method.prepare(loaded, [picture], [SOURCE])
    assert learned.network.config.variant == variant
    assert method.edit(loaded, learned, TARGET).size == picture.size
