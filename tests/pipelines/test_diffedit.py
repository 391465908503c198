import copy
import dataclasses
import warnings

import numpy as np
import PIL.Image
import pytest
import torch

from semantic_edit.denoisers import Denoiser
from semantic_edit.editing.masking import MaskResult
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines import diffedit_method, encoding
from semantic_edit.pipelines.presets import EditGuidance, guidance_of, preset_of

pytestmark = pytest.mark.families("sd", slow=["sdxl"])

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
QUICK = {"num_inference_steps": 5, "num_maps_per_mask": 3}
PAPER = {"preset": "paper", **QUICK}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def half_mask():
    mask = torch.zeros(1, 1, 48, 64)
    mask[..., 32:] = 1
    return mask


def test_one_call_edits_with_140_evaluations_and_reuse_with_80(pipe, picture, counted):
    result = pipe(picture, TARGET, SOURCE, generator=seeded(), preset="paper")
    assert counted.samples == 2 * 10 + 40 + 2 * 40 == 140
    assert [image.size for image in result.images] == [(64, 48)]
    assert result.mask.shape == result.soft_mask.shape == (1, 1, 6, 8)
    assert result.mask_confidence.shape == result.mask_coherence.shape == (1,)
    assert result.trajectory.latents.shape == (41, 1, 4, 6, 8)
    assert result.trajectory.latents.dtype == torch.float32
    counted.samples = 0
    again = pipe(prompt=TARGET, mask_image=result.pixel_mask, trajectory=result.trajectory, preset="paper")
    assert counted.samples == 80
    np.testing.assert_allclose(np.asarray(again.images[0], int), np.asarray(result.images[0], int), atol=1)
    assert again.soft_mask is None
    assert again.mask_confidence is again.mask_coherence is None


@pytest.mark.families("sd", "sdxl")
def test_the_stages_give_what_one_call_gives(pipe, picture):
    whole = pipe(picture, TARGET, SOURCE, generator=seeded(), output_type="np", **PAPER)
    mask = pipe.generate_mask(
        picture, target_prompt=TARGET, source_prompt=SOURCE, generator=seeded(), **QUICK
    )
    latents = pipe.invert(image=picture, num_inference_steps=5, preset="paper").latents
    given = {"prompt": TARGET, "image_latents": latents, "output_type": "np", **PAPER}
    staged = pipe(mask_image=whole.pixel_mask, **given)
    np.testing.assert_array_equal(mask, (whole.soft_mask[:, 0] > 0.5).numpy())
    np.testing.assert_allclose(staged.images, whole.images, atol=1e-4)
    assert staged.trajectory is None
    blocks = pipe(mask_image=mask, **given)  # the stages' mask has the latents' resolution, as in diffusers
    np.testing.assert_array_equal(blocks.mask[:, 0].numpy(), mask)


def test_a_found_mask_is_binary_in_pixels_and_its_mean_weighs_the_latents(pipe, picture):
    found = pipe(picture, TARGET, SOURCE, generator=seeded(), mask_threshold=0.3, **PAPER)
    assert found.pixel_mask.shape == (1, 1, 48, 64)
    assert set(found.pixel_mask.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(found.mask, torch.nn.functional.avg_pool2d(found.pixel_mask, 8))


def test_the_background_ends_on_the_clean_latent(pipe, picture, half_mask):
    result = pipe(picture, TARGET, mask_image=half_mask, output_type="latent", num_inference_steps=5)
    clean = result.trajectory.latents[0]
    assert (result.images - clean)[..., :4].abs().max() <= 1e-6
    assert (result.images - clean)[..., 4:].abs().mean() > 1e-3
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    expected = pipe.vae.encode(pixels / 127.5 - 1).latent_dist.mode() * pipe.vae.config.scaling_factor
    torch.testing.assert_close(clean, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.families("sd", "sdxl")
def test_an_edit_does_not_depend_on_its_neighbours(pipe, pictures):
    prompts, sources = [TARGET, "a mug", "a blue mug on the table"], [SOURCE, "", "a photo"]
    together = pipe(pictures, prompts, sources, generator=seeded(), output_type="np", **QUICK)
    alone = pipe(pictures[1], prompts[1], sources[1], generator=seeded(), output_type="np", **QUICK)
    np.testing.assert_allclose(together.soft_mask[1], alone.soft_mask[0], atol=1e-4)
    np.testing.assert_array_equal(together.mask[1], alone.mask[0])
    np.testing.assert_allclose(together.images[1], alone.images[0], atol=1e-4)
    own = [seeded(seed) for seed in (5, 6, 7)]
    listed = pipe(pictures, prompts, sources, generator=own, output_type="np", **QUICK)
    alone = pipe(pictures[1], prompts[1], sources[1], generator=seeded(6), output_type="np", **QUICK)
    np.testing.assert_allclose(listed.soft_mask[1], alone.soft_mask[0], atol=1e-4)


def test_one_picture_serves_several_prompts(pipe, picture, counted):
    result = pipe(picture, [TARGET, "a mug"], SOURCE, generator=seeded(), **PAPER)
    assert counted.samples == 2 * 2 * 3 + 4 + 2 * 2 * 4  # two masks, one inversion, two decodings
    assert len(result.images) == 2
    assert result.trajectory.batch_size == 1


def test_a_longer_trajectory_serves_a_weaker_edit(pipe, picture, half_mask):
    options = {"prompt": TARGET, "mask_image": half_mask, "output_type": "np", "num_inference_steps": 5}
    long = pipe.invert(image=picture, num_inference_steps=5, inpaint_strength=1.0).trajectory
    reused = pipe(picture, trajectory=long, inpaint_strength=0.4, **options)
    fresh = pipe(picture, inpaint_strength=0.4, **options)
    np.testing.assert_allclose(reused.images, fresh.images, atol=1e-4)


def test_a_saved_trajectory_serves_the_next_edit(pipe, picture, half_mask, tmp_path):
    options = {"prompt": TARGET, "mask_image": half_mask, "num_inference_steps": 5, "output_type": "np"}
    first = pipe(picture, **options)
    first.trajectory.save(tmp_path / "t.safetensors")
    second = pipe(picture, trajectory=Trajectory.load(tmp_path / "t.safetensors"), **options)
    np.testing.assert_array_equal(first.images, second.images)


def test_preserved_background_is_bit_identical(pipe, picture, half_mask):
    original = np.asarray(picture)
    options = {"prompt": TARGET, "num_inference_steps": 5, "preserve_background": True}
    result = pipe(picture, mask_image=half_mask, **options)
    edited = np.asarray(result.images[0])
    assert np.array_equal(edited[:, :32], original[:, :32])
    assert not np.array_equal(edited[:, 32:], original[:, 32:])
    arrays = pipe(picture, mask_image=half_mask, output_type="np", **options).images
    assert np.array_equal(arrays[0, :, :32], original[:, :32].astype(np.float32) / 255)
    # three sigmas beyond its edge a feathered mask ends
    feathered = np.asarray(pipe(picture, mask_image=half_mask, mask_feather=2.0, **options).images[0])
    assert np.array_equal(feathered[:, :26], original[:, :26])
    assert not np.array_equal(feathered[:, 26:32], original[:, 26:32])


@pytest.mark.families("sd")
def test_masks_grow_and_feather_in_pixels(pipe, picture, half_mask):
    grown = pipe(
        picture, TARGET, mask_image=half_mask, mask_grow=8, num_inference_steps=2, preset="paper"
    ).mask
    assert torch.equal(grown[..., 3:], torch.ones(1, 1, 6, 5))
    assert not grown[..., :3].any()
    shrunk = pipe(
        picture, TARGET, mask_image=half_mask, mask_grow=-8, num_inference_steps=2, preset="paper"
    ).mask
    assert torch.equal(shrunk[0, 0, 0], torch.tensor([0.0] * 5 + [1.0] * 3))
    soft = pipe(
        picture, TARGET, mask_image=half_mask, mask_feather=4.0, num_inference_steps=2, preset="paper"
    ).mask
    assert (soft[..., 3:5] > 0).all()
    assert (soft[..., 3:5] < 1).all()


def test_an_empty_mask_returns_the_original_without_unet_work(pipe, picture, counted):
    empty = PIL.Image.new("L", (64, 48))
    with pytest.warns(
        UserWarning, match="The mask is empty, so nothing is edited. Paint white in `mask_image`"
    ):
        result = pipe(picture, TARGET, mask_image=empty)
    assert counted.samples == 0
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(picture))
    assert result.trajectory is None
    with pytest.warns(UserWarning, match="is empty"):
        latents = pipe(picture, TARGET, mask_image=empty, output_type="latent").images
    clean = pipe.invert(image=picture, num_inference_steps=2).latents[:, -1]
    assert (latents - clean).abs().max() <= 1e-6


def test_an_empty_mask_among_others_returns_that_original(pipe, pictures):
    masks = torch.stack([torch.zeros(1, 6, 8), torch.ones(1, 6, 8)])
    with (
        pytest.warns(UserWarning, match=r"edits \[0\] is empty"),
        pytest.warns(UserWarning, match=r"edits \[1\] covers the whole picture"),
    ):
        result = pipe(pictures[:2], TARGET, mask_image=masks, num_inference_steps=2)
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(pictures[0]))
    assert not np.array_equal(np.asarray(result.images[1]), np.asarray(pictures[1]))


@pytest.mark.filterwarnings("ignore:The mask")  # empty where two rows of a batch round alike
def test_equal_prompts_are_said_to_barely_differ(pipe, picture):
    with pytest.warns(UserWarning, match=r"barely differ: .*pass a `mask_image`"):
        pipe(picture, SOURCE, SOURCE, **QUICK)


def test_an_ordinary_edit_warns_of_nothing(pipe, picture):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipe(picture, TARGET, SOURCE, generator=seeded(), mask_threshold=0.9, **QUICK)


@pytest.mark.parametrize("scale", [1.0, 3.0, 20.0])
def test_guidance_changes_no_mask(pipe, picture, scale):
    options = {"target_prompt": TARGET, "source_prompt": SOURCE, "num_maps_per_mask": 3}
    usual = pipe.generate_mask(picture, generator=seeded(), **options)
    other = pipe.generate_mask(picture, generator=seeded(), guidance_scale=scale, **options)
    np.testing.assert_array_equal(usual, other)


@pytest.mark.families("sd", "sdxl")
def test_unequal_negative_prompts_are_computed(pipe, picture, counted, monkeypatch):
    kept = []
    find_mask = diffedit_method.find_mask

    def keeping(*args) -> MaskResult:
        kept.append(find_mask(*args))
        return kept[-1]

    monkeypatch.setattr(diffedit_method, "find_mask", keeping)
    options = {"target_prompt": TARGET, "source_prompt": SOURCE, "num_maps_per_mask": 3}
    pipe.generate_mask(picture, generator=seeded(), target_negative_prompt="a mug", **options)
    assert counted.samples == 4 * 3
    counted.samples = 0
    pipe.generate_mask(
        picture,
        generator=seeded(),
        target_negative_prompt="a mug",
        source_negative_prompt="a mug",
        **options,
    )
    assert counted.samples == 2 * 3
    assert not torch.equal(kept[0].soft_mask, kept[1].soft_mask)
    # without guidance there are no negative terms
    counted.samples = 0
    pipe.generate_mask(picture, target_negative_prompt="a mug", guidance_scale=1.0, **options)
    assert counted.samples == 2 * 3


def test_the_calls_negative_prompt_is_for_both_sides(pipe, picture, counted):
    pipe(picture, TARGET, SOURCE, negative_prompt="a mug", generator=seeded(), **PAPER)
    assert counted.samples == 2 * 3 + 4 + 2 * 4
    counted.samples = 0
    pipe(
        picture,
        TARGET,
        SOURCE,
        negative_prompt="a mug",
        source_negative_prompt="",
        generator=seeded(),
        **PAPER,
    )
    assert counted.samples == 4 * 3 + 4 + 2 * 4


@pytest.mark.parametrize("mask_batch_size", [1, 2, 5, 100])
def test_mask_chunks_change_nothing(pipe, pictures, mask_batch_size):
    options = {"num_inference_steps": 2, "num_maps_per_mask": 5, "output_type": "latent"}
    usual, chunked = (
        pipe(pictures, TARGET, SOURCE, generator=seeded(), mask_batch_size=size, **options).soft_mask
        for size in (10, mask_batch_size)
    )
    torch.testing.assert_close(chunked, usual, rtol=0, atol=1e-4)


def test_the_picture_is_encoded_once(pipe, picture, monkeypatch):
    calls = []
    encode = pipe.vae.encode
    monkeypatch.setattr(pipe.vae, "encode", lambda pixels: calls.append(pixels.shape[0]) or encode(pixels))
    pipe(picture, [TARGET, "a mug"], SOURCE, **QUICK)
    assert calls == [1]


@pytest.mark.families("sd", "sdxl")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(pipe, make_pipe, make_unet, picture, half_mask, dtype):
    halves = make_pipe(
        unet=make_unet().to(dtype),
        vae=copy.deepcopy(pipe.vae).to(dtype),
        text_encoder=copy.deepcopy(pipe.text_encoder).to(dtype),
    )
    options = {"prompt": TARGET, "mask_image": half_mask, "num_inference_steps": 5, "output_type": "np"}
    result = halves(picture, **options)
    assert result.trajectory.latents.dtype == torch.float32
    assert result.mask.dtype == torch.float32
    assert np.abs(result.images - pipe(picture, **options).images).mean() < 0.03
    found = halves(picture, TARGET, SOURCE, generator=seeded(), **QUICK)
    assert found.soft_mask.dtype == torch.float32
    # float16 weights are known again in the full-precision model's trajectory
    if dtype == torch.float16:
        halves(picture, trajectory=pipe(picture, **options).trajectory, **options)


def test_v_prediction(make_pipe, pipe, picture, half_mask):
    other = make_pipe()
    other.scheduler.register_to_config(prediction_type="v_prediction")
    found = other(picture, TARGET, SOURCE, generator=seeded(), **PAPER)
    assert found.trajectory.prediction_type == "v_prediction"
    # the model's output differs by a factor between the two readings, so its mask does not
    usual = pipe(picture, TARGET, SOURCE, generator=seeded(), **PAPER)
    assert torch.equal(found.mask, usual.mask)
    assert not torch.allclose(found.trajectory.latents, usual.trajectory.latents)
    kept = other(picture, TARGET, mask_image=half_mask, num_inference_steps=5, output_type="latent")
    assert (kept.images - kept.trajectory.latents[0])[..., :4].abs().max() <= 1e-6


@pytest.mark.families("sd")
def test_outputs(pipe, pictures, half_mask):
    options = {"prompt": TARGET, "mask_image": half_mask, "num_inference_steps": 2}
    shapes = {"np": (3, 48, 64, 3), "pt": (3, 3, 48, 64), "latent": (3, 4, 6, 8)}
    results = {kind: pipe(pictures, output_type=kind, **options).images for kind in ("pil", *shapes)}
    for kind, shape in shapes.items():
        assert results[kind].shape == shape
    assert 0 <= results["np"].min() <= results["np"].max() <= 1
    np.testing.assert_allclose(results["np"], results["pt"].permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(np.asarray(results["pil"][2]), (255 * results["np"][2]).round())
    images, flags, mask, pixels, soft, *sure, trajectory, frames, contrast = pipe(
        pictures, return_dict=False, **options
    )
    assert len(images) == 3
    assert [flags, soft, *sure, contrast] == [None] * 5
    assert mask.shape == (3, 1, 6, 8)
    assert pixels.shape == (3, 1, 48, 64)
    assert trajectory.batch_size == 3
    assert [str(frame) for frame in frames] == ["64 x 48 pixels"] * 3


def test_several_images_per_prompt_are_neighbours(pipe, pictures, half_mask):
    options = {"prompt": TARGET, "mask_image": half_mask, "num_inference_steps": 2, "output_type": "np"}
    images = pipe(pictures[:2], num_images_per_prompt=2, **options).images
    assert images.shape[0] == 4
    np.testing.assert_allclose(images[0], images[1], atol=1e-4)
    np.testing.assert_allclose(images[2:], np.repeat(pipe(pictures[1], **options).images, 2, 0), atol=1e-4)


def test_latents_may_be_edited_instead_of_pictures(pipe, picture, half_mask):
    options = {"prompt": TARGET, "mask_image": half_mask, "num_inference_steps": 5, "output_type": "latent"}
    from_pixels = pipe(picture, **options)
    from_latents = pipe(from_pixels.trajectory.latents[0], **options)
    assert torch.equal(from_pixels.images, from_latents.images)


def test_nothing_of_a_call_stays_on_the_pipeline(pipe, picture):
    before = dict(vars(pipe))
    scheduler = {key: repr(value) for key, value in vars(pipe.scheduler).items()}
    pipe(picture, TARGET, SOURCE, cross_attention_kwargs={"scale": 0.5}, **QUICK)
    changed = {key for key in {*before, *vars(pipe)} if vars(pipe).get(key) is not before.get(key)}
    assert changed <= {"_lora_scale"}  # diffusers' own encode_prompt writes it
    assert scheduler == {key: repr(value) for key, value in vars(pipe.scheduler).items()}


def test_each_stage_has_a_progress_bar(family, pipe, picture):
    totals = []
    original = type(pipe).progress_bar

    class Watched(type(pipe)):
        def progress_bar(self, iterable=None, total=None):
            totals.append(total)
            return original(self, iterable, total)

    watched = Watched(**pipe.components, **family.silent)
    watched.set_progress_bar_config(disable=True)
    watched(picture, TARGET, SOURCE, mask_batch_size=2, **QUICK)
    assert totals == [3, 4, 4]


@pytest.mark.families("sd")
def test_the_default_preset_evaluates_every_third_step_of_the_inversion(pipe, picture, counted):
    output = pipe(picture, TARGET, SOURCE, generator=seeded())
    recolours = bool(output.mask_coherence >= Denoiser.tuning.coherence)
    assert counted.samples == 2 * 5 + 6 + (2 * 6 + 10 if recolours else 2 * 16)
    assert output.trajectory.num_inference_steps == 20


def test_an_unknown_preset_is_refused(pipe, picture, counted):
    for call in (pipe, pipe.generate_mask, pipe.invert):
        with pytest.raises(ValueError, match=r"`preset` must be one of 'paper', 'default', got 'best'"):
            call(image=picture, preset="best")
    assert counted.samples == 0


@pytest.mark.families("sd")
@pytest.mark.parametrize("stop", [-0.1, 1.5, "half", float("nan")])
def test_guidance_stops_within_the_schedule(pipe, picture, stop):
    with pytest.raises(
        ValueError, match=r"`guidance_stop` must be a number from 0 to 1, or nothing, got .*1 guides all"
    ):
        pipe(picture, TARGET, guidance_stop=stop)


def test_guidance_that_stops_at_once_is_none(pipe, picture, half_mask, counted):
    options = {"prompt": TARGET, "mask_image": half_mask, "num_inference_steps": 5, "output_type": "latent"}
    stopped = pipe(picture, guidance_stop=0.0, **options).images
    assert counted.samples == 2 + 4
    torch.testing.assert_close(stopped, pipe(picture, guidance_scale=1.0, **options).images)
    options["guidance_scale"] = 7.5
    whole = pipe(picture, guidance_stop=1.0, **options).images
    trajectory = pipe.invert(image=picture, num_inference_steps=5).trajectory
    paper = pipe(picture, trajectory=trajectory, preset="paper", **options).images
    torch.testing.assert_close(whole, paper)
    assert not torch.allclose(whole, stopped)


def test_each_edit_has_its_own_end_of_guidance(pipe, picture, half_mask, monkeypatch):
    options = {"mask_image": half_mask, "num_inference_steps": 5, "output_type": "latent"}
    given = EditGuidance(scales=[7.5, 7.5], stops=[0.4, 1.0], from_source=[False, False])
    monkeypatch.setattr(encoding, "guidance_of", lambda *_: given)
    both = pipe(picture, [TARGET, TARGET], **options).images
    monkeypatch.undo()
    for row, stop in enumerate((0.4, 1.0)):
        alone = pipe(picture, TARGET, guidance_scale=7.5, guidance_stop=stop, **options).images
        # other batches, and a scale of 1 instead of no guidance
        torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-3, atol=1e-4)


def test_object_edits_are_guided_away_from_the_source_prompt(family, pipe, picture, monkeypatch):
    """By default, as if the call had said so; its own negative prompt, scale or mask takes precedence."""
    options = {"prompt": TARGET, "source_prompt": SOURCE, "output_type": "latent", **QUICK}
    tuning = Denoiser.tuning
    away = {
        "negative_prompt": SOURCE,
        "guidance_scale": tuning.source_guidance,
        "guidance_stop": tuning.source_guidance_stop,
    }

    def edited(kinds=(False,), **changes):
        def guidance_of_kinds(preset, recolours, *others):
            return guidance_of(preset, recolours and kinds, *others)

        monkeypatch.setattr(encoding, "guidance_of", guidance_of_kinds)
        return pipe(picture, **{**options, **changes}, generator=seeded()).images

    first = pipe(picture, **options, generator=seeded())
    found = first.mask
    told = edited(mask_image=found, **away)
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(edited(), told, **close)
    scale = {"guidance_scale": family.denoiser.usual_guidance}
    usual = edited(**scale)
    assert not torch.allclose(told, usual, atol=0.01)
    torch.testing.assert_close(
        edited(preset="paper", mask_refine=True, trajectory=first.trajectory, **scale), usual, **close
    )
    torch.testing.assert_close(edited(source_prompt="", mask_image=found), usual, **close)
    torch.testing.assert_close(edited([True], guidance_stop=1.0), usual, **close)
    both = edited([False, True], prompt=[TARGET, TARGET], guidance_stop=1.0)
    throughout = edited(guidance_stop=1.0)
    assert not torch.allclose(throughout, told, atol=0.01)
    torch.testing.assert_close(both, torch.cat([throughout, usual]), rtol=1e-2, atol=1e-2)
    scales = []

    def note(pipe, step, timestep, tensors):
        scales.append(pipe.guidance_scale)
        return {}

    edited(callback_on_step_end=note)
    assert set(scales) == {tuning.source_guidance}


def test_what_suits_a_model_is_its_own(family, pipe, picture, monkeypatch):
    """Another `otsu_part` cuts the map elsewhere, and what counts as a colour edit decides how it is guided."""
    scales = []

    def note(pipe, step, timestep, tensors):
        scales.append(pipe.guidance_scale)
        return {}

    def edited(**changes):
        monkeypatch.setattr(family.denoiser, "tuning", dataclasses.replace(Denoiser.tuning, **changes))
        scales.clear()
        return pipe(picture, TARGET, SOURCE, generator=seeded(), callback_on_step_end=note, **QUICK)

    usual = edited()
    wide = edited(otsu_part=0.5)
    assert wide.soft_mask.sum() > usual.soft_mask.sum()
    objects = edited(coherence=1.1, source_guidance=3.5)
    assert set(scales) == {3.5}
    colours = edited(coherence=0.0, colour_guidance_stop=0.2)
    assert set(scales) == {family.denoiser.usual_guidance}
    assert torch.equal(objects.soft_mask, colours.soft_mask)
    assert torch.equal(colours.soft_mask, usual.soft_mask)
    assert (objects.pixel_mask >= colours.pixel_mask).all()
    assert not torch.equal(objects.pixel_mask, colours.pixel_mask)


def test_the_kind_of_edit_decides_what_is_left_open():
    kinds, tuning = (True, False, False), Denoiser.tuning
    default, paper = (preset_of(name) for name in ("default", "paper"))
    by_kind = guidance_of(default, kinds, [True, True, False], 7.5, tuning)
    assert by_kind == EditGuidance([7.5, 4.0, 7.5], [0.5, 0.6, 1.0], [False, True, False])
    unknown = guidance_of(default, None, [True, True], 7.5, tuning)
    assert unknown == guidance_of(paper, kinds[:2], [True, True], 7.5, tuning)
    assert unknown == EditGuidance([7.5, 7.5], [1.0, 1.0], [False, False])
    told = guidance_of(
        preset_of("default", guidance_scale=5.0, guidance_stop=0.2), kinds, [True] * 3, 7.5, tuning
    )
    assert told == EditGuidance([5.0] * 3, [0.2] * 3, [False] * 3)


def test_pasting_gives_latents_room_and_keeps_the_masks_shape(pipe, picture, half_mask):
    options = {"prompt": TARGET, "mask_image": half_mask, "num_inference_steps": 5}
    roomy, bare = pipe(picture, **options), pipe(picture, preserve_background=False, **options)
    torch.testing.assert_close(roomy.pixel_mask, half_mask)
    assert (roomy.mask[..., 3] == 0.5).all()  # half a latent
    assert not bare.mask[..., 3].any()
    original, edited = np.asarray(picture), np.asarray(roomy.images[0])
    assert np.array_equal(edited[:, :32], original[:, :32])
    latents = pipe(picture, output_type="latent", **options)
    assert not latents.mask[..., 3].any()  # nothing is pasted there


@pytest.mark.families("sd")
def test_a_refined_mask_needs_no_pixels(pipe, picture):
    clean = pipe.invert(image=picture, num_inference_steps=5).latents[:, -1]
    found = pipe(clean, TARGET, SOURCE, generator=seeded(), output_type="latent", **QUICK)
    assert found.pixel_mask.shape == (1, 1, 48, 64)
    shaped = pipe(picture, TARGET, SOURCE, generator=seeded(), mask_grow=0, **QUICK)
    assert set(shaped.pixel_mask.unique().tolist()) <= {0.0, 1.0}
