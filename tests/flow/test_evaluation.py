"""The comparison's methods on rectified flows."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline
from torch.testing import assert_close

from semantic_edit.cli import main
from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import PromptPair, ddim_step, predict_guided
from semantic_edit.evaluation.diffedit_method import DiffEditMethod
from semantic_edit.evaluation.direct_inversion import DirectInversion
from semantic_edit.evaluation.edit_friendly import EditFriendly
from semantic_edit.evaluation.encode_decode import EncodeDecode
from semantic_edit.evaluation.flow_edit import FlowEdit
from semantic_edit.evaluation.ilvr import ILVR
from semantic_edit.evaluation.ledits import LEDITSPlusPlus
from semantic_edit.evaluation.masked_sdedit import MaskedSDEdit
from semantic_edit.evaluation.measuring import latents_outside
from semantic_edit.evaluation.method import embeds_of, floats_of, latents_of, vae_reconstruction
from semantic_edit.evaluation.metrics.edit_metrics import MOST
from semantic_edit.evaluation.negative_prompt import NegativePromptInversion
from semantic_edit.evaluation.null_text import NullTextInversion
from semantic_edit.evaluation.prompt_to_prompt import PromptToPrompt
from semantic_edit.evaluation.restyled import Restyled
from semantic_edit.evaluation.rf_inversion import RFInversion
from semantic_edit.evaluation.sdedit import SDEdit
from semantic_edit.evaluation.word_swap import WordSwap
from semantic_edit.pipelines import StableDiffusion3DiffEditPipeline, pipeline_around
from tests.conftest import make_picture
from tests.flow.flux import make_flux
from tests.flow.sd3 import make_sd3

pytestmark = pytest.mark.filterwarnings("ignore:The mask")

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
METHODS = [
    DiffEditMethod(4, num_maps_per_mask=2),
    DiffEditMethod(4, num_maps_per_mask=2, encoding="noise"),
    DiffEditMethod(4, num_maps_per_mask=2, encoding="flowedit", guidance_scale=None),
    FlowEdit(4, moved=0.75),
    RFInversion(4),
    SDEdit(4),
    MaskedSDEdit(4),
    WordSwap(4),
    EncodeDecode(4),
    ILVR(4, down_factor=2),
]
NAMES = [
    "DiffEdit",
    "DiffEdit-noise",
    "DiffEdit-FlowEdit",
    "FlowEdit",
    "RFInversion",
    "SDEdit",
    "MaskedSDEdit",
    "WordSwap",
    "EncodeDecode",
    "ILVR",
]


@pytest.fixture(scope="module")
def loaded():
    """diffusers' own pipeline, without a T5, as the still-life model is."""
    return make_sd3(third=False)


@pytest.fixture(scope="module")
def image():
    return make_picture(1)


@pytest.fixture(scope="module")
def clean(loaded, image):
    return latents_of(denoiser_of(loaded), [image])


def prepared_for(method, loaded, image, prompt=SOURCE):
    (prepared,) = method.prepare(loaded, [image], [prompt])
    return prepared


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_each_method_gives_the_same_again_and_another_for_another_prompt(loaded, image, clean, method):
    method.check(loaded)
    method.check_steps(loaded)
    prepared = prepared_for(method, loaded, image)
    first, again, other = (
        method.edited(loaded, prepared, prompt, seed=1) for prompt in (TARGET, TARGET, "a blue mug")
    )
    assert first.image.size == image.size
    assert first.latents.shape == clean.shape
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))


@pytest.mark.parametrize("method", METHODS[3:], ids=NAMES[3:])
def test_pictures_prepared_together_edit_as_if_alone(loaded, image, method):
    other = make_picture(2)
    together = method.prepare(loaded, [other, image], ["a mug", SOURCE])[1]
    alone = prepared_for(method, loaded, image)
    first, second = (method.edited(loaded, one, TARGET, seed=1).latents for one in (together, alone))
    assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_flow_edit_between_equal_prompts_and_scales_leaves_every_bit(loaded, image, clean):
    method = FlowEdit(4, guidance_scale=3.5, source_guidance=3.5, moved=1.0)
    prepared = prepared_for(method, loaded, image)
    assert torch.equal(method.move(loaded, prepared, SOURCE), clean)
    assert not torch.equal(method.move(loaded, prepared, TARGET), clean)


def test_flow_edit_changes_more_the_more_steps_move(loaded, image, clean):
    distances = []
    for moved in (0.25, 0.5, 1.0):
        method = FlowEdit(4, moved=moved)
        edited = method.move(loaded, prepared_for(method, loaded, image), TARGET, seed=1)
        distances.append(float((edited - clean).norm()))
    assert 0 < distances[0] < distances[1] < distances[2]


def test_flow_edit_is_diffedit_with_a_mask_of_ones(loaded, image):
    method = FlowEdit(4, moved=1.0)
    expected = method.move(loaded, prepared_for(method, loaded, image), TARGET, seed=1)
    own = pipeline_around(StableDiffusion3DiffEditPipeline, loaded)
    own.set_progress_bar_config(disable=True)
    done = own(
        image,
        TARGET,
        SOURCE,
        np.ones((image.height, image.width)),
        encoding="flowedit",
        inpaint_strength=1.0,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(1),
        height=image.height,
        width=image.width,
        output_type="latent",
    ).images
    assert_close(done, expected, rtol=1e-4, atol=1e-4)


def test_the_three_encodings_of_diffedit_find_the_same_mask(loaded, image):
    masks = []
    for encoding in ("inversion", "noise", "flowedit"):
        method = DiffEditMethod(4, num_maps_per_mask=2, mask_threshold=0.8, encoding=encoding)
        done = method.edited(loaded, prepared_for(method, loaded, image), TARGET, seed=1)
        masks.append(done.mask)
        assert latents_outside(denoiser_of(loaded), image, done.latents, done.mask) == MOST
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()
    assert not masks[0].all()


def test_kept_latents_are_those_that_no_pixel_of_the_region_touches(loaded, image, clean):
    denoiser, region = denoiser_of(loaded), np.zeros((48, 64), dtype=bool)
    region[3, 9] = True  # in the first row's second latent
    edited = clean.clone()
    edited[:, :, 0, 1] += 5
    assert latents_outside(denoiser, image, edited, region) == MOST
    peak = clean.max() - clean.min()
    assert latents_outside(denoiser, image, clean + 0.01 * peak, region) == pytest.approx(40, abs=0.01)
    assert math.isnan(latents_outside(denoiser, image, edited, np.ones((48, 64), dtype=bool)))


def test_rf_inversion_that_is_drawn_wholly_to_the_end_returns_the_picture(loaded, image, clean):
    method = RFInversion(4, eta=1.0, stop=1.0)
    prepared = prepared_for(method, loaded, image)
    assert_close(method.decode(loaded, prepared, TARGET), clean, rtol=0, atol=1e-5)
    best = vae_reconstruction(denoiser_of(loaded), image)
    assert np.abs(method.reconstruct(loaded, prepared) - best).max() < 1e-4


def test_rf_inversion_keeps_more_the_longer_it_is_drawn(loaded, image, clean):
    prepared = prepared_for(RFInversion(8), loaded, image)
    distances = [
        float((RFInversion(8, stop=stop).decode(loaded, prepared, TARGET) - clean).norm())
        for stop in (0.25, 0.75, 1.0)
    ]
    assert distances[0] > distances[1] > distances[2]


def test_rf_inversion_that_is_drawn_wholly_towards_noise_ends_on_it(loaded, image):
    first, second = (prepared_for(RFInversion(4, gamma=1.0), loaded, make_picture(seed)) for seed in (1, 2))
    assert_close(first.noisiest, second.noisiest, rtol=0, atol=1e-5)
    assert abs(float(first.noisiest.std()) - 1) < 0.2


@torch.no_grad()
def test_rf_inversion_that_is_not_drawn_is_eulers_method(loaded, image, clean):
    method = RFInversion(4, guidance_scale=3.0, gamma=0.0, eta=0.0, stop=1.0)
    prepared = prepared_for(method, loaded, image)
    denoiser = denoiser_of(loaded)
    schedule = denoiser.schedule(4, tuple(clean.shape[-2:]))
    pair = PromptPair(embeds_of(denoiser, [TARGET]), embeds_of(denoiser, [""]))
    latents = clean
    for level in range(1, 5):
        velocity = denoiser.predict(latents, schedule.timestep(level), pair.unconditional)
        latents = latents + (schedule.noise[level] - schedule.noise[level - 1]) * velocity
    assert_close(prepared.noisiest, latents, rtol=1e-5, atol=1e-5)
    for level in range(4, 0, -1):
        velocity = predict_guided(denoiser, latents, schedule.timestep(level), pair, 3.0)
        latents = ddim_step(latents, velocity, schedule, level)
    assert_close(method.decode(loaded, prepared, TARGET), latents, rtol=1e-4, atol=1e-4)


def test_sdedit_is_diffusers_own_from_the_level_of_its_noise(loaded, image, clean):
    denoiser = denoiser_of(loaded)
    method = SDEdit(8, 5.0, strength=0.5)
    levels = method.schedule(denoiser, clean).levels(0.5)
    upstream = StableDiffusion3Img2ImgPipeline(**loaded.components)
    upstream.set_progress_bar_config(disable=True)
    expected = upstream(
        prompt=TARGET,
        image=clean,
        strength=levels / 8,
        num_inference_steps=8,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(2),
        height=image.height,
        width=image.width,
        output_type="latent",
    ).images
    done = method.edited(loaded, prepared_for(method, loaded, image), TARGET, seed=2)
    assert_close(done.latents, expected, rtol=1e-4, atol=1e-4)


def test_a_word_swap_that_swaps_nothing_returns_near_to_the_picture(loaded, image, clean):
    method = WordSwap(20, guidance_scale=1.0)
    prepared = prepared_for(method, loaded, image)
    returned = method.decode(loaded, prepared, SOURCE)
    assert (returned - clean).norm() < 0.05 * clean.norm()
    assert np.array_equal(method.reconstruct(loaded, prepared), floats_of(denoiser_of(loaded), returned))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (PromptToPrompt(4), "which has no UNet, and this needs a UNet's cross-attention"),
        (NullTextInversion(4), "which has no UNet, and this needs a UNet's cross-attention"),
        (NegativePromptInversion(4), "which has no UNet, and this needs a UNet's cross-attention"),
        (DirectInversion(4), "which has no UNet, and this needs a UNet's cross-attention"),
        (Restyled(4), "StyleDiffusion has no pipeline for models of Stable Diffusion 3"),
        (LEDITSPlusPlus(4), r"LEDITS\+\+ has no pipeline for models of Stable Diffusion 3"),
        (EditFriendly(4), "this model of Stable Diffusion 3 is a rectified flow. Use one of those models"),
    ],
    ids=["P2P", "NTI", "NPI", "DirectInversion", "StyleDiffusion", "LEDITS++", "EditFriendly"],
)
def test_methods_of_unets_refuse_a_flow(loaded, method, message):
    with pytest.raises(ValueError, match=message):
        method.check(loaded)


def test_methods_of_noise_refuse_a_flow_that_was_distilled_to_a_few_steps():
    with pytest.raises(
        ValueError, match=r"this model of FLUX\.1 is a rectified flow\. Use one of those models"
    ):
        EditFriendly(4).check(make_flux(told=False))


@pytest.mark.parametrize(
    ("method", "name"), [(FlowEdit(), "FlowEdit"), (RFInversion(), "RF-Inversion")], ids=["flow", "rf"]
)
def test_methods_of_flows_refuse_a_unet(make_pipe, method, name):
    with pytest.raises(
        ValueError, match=rf"{name} moves along the velocities of a rectified flow, .* predicts noise\."
    ):
        method.check(make_pipe())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (FlowEdit(4, moved=0.2), "`moved` 0.2 of `num_inference_steps` 4 is less than one step"),
        (FlowEdit(4, moved=1.5), "`moved` must be a number from 0 to 1, got 1.5"),
        (RFInversion(4, stop=0.1), "`stop` 0.1 of `num_inference_steps` 4 is less than one step"),
    ],
)
def test_knobs_of_less_than_one_step_are_refused(loaded, method, message):
    with pytest.raises(ValueError, match=message):
        method.check_steps(loaded)


def test_weights_beyond_1_are_refused():
    with pytest.raises(ValueError, match=r"`eta` must be a number from 0 to 1, got 1\.5"):
        RFInversion(eta=1.5)


def test_the_command_compares_on_a_folder_of_stable_diffusion_3(tmp_path, loaded, capsys):
    loaded.save_pretrained(tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    missing = {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}  # diffusers leaves them out
    index.write_text(json.dumps({**json.loads(index.read_text()), **missing}))
    command = ["evaluate", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--count", "1"]
    command += ["--kinds", "colour", "--points", "1", "--steps", "4", "--metrics", "nearest", "psnr_outside"]
    assert main([*command, "--methods", "p2p"]) == 2
    assert "which has no UNet" in capsys.readouterr().err
    assert main([*command, "--methods", "diffedit", "diffedit-flowedit", "flowedit", "rf-inversion"]) == 0
    printed = capsys.readouterr().out
    assert "PSNR of latents outside, dB" in printed
    for line in (
        "| DiffEdit |",
        "| DiffEdit, FlowEdit |",
        "| FlowEdit | moved **0.66**",
        "| RF-Inversion | stop",
    ):
        assert line in printed
