"""Images of any size: what the model works at, what is returned, and what remembers the image it was made from."""

import copy
import re

import numpy as np
import PIL.Image
import pytest
import torch

from benchmarks.small_things import small_cases
from semantic_edit.editing import stitching
from semantic_edit.editing.frames import Frame
from semantic_edit.editing.origins import mask_as_image
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines import DiffEditPipeline, searching
from semantic_edit.still_life import model_path

pytestmark = pytest.mark.families("sd", slow=["sdxl"])

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
WIDTH, HEIGHT = 451, 303  # the tests' model is made for 64 x 64
QUICK = LearningSettings(inner_steps=1, stop_below=0.0, converged_below=100.0)


def smooth(seed, width=WIDTH, height=HEIGHT):
    few = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return PIL.Image.fromarray(few).resize((width, height), PIL.Image.Resampling.BICUBIC)


def mask_of(left, upper, right, lower, width=WIDTH, height=HEIGHT):
    mask = PIL.Image.new("L", (width, height), 0)
    mask.paste(255, (left, upper, right, lower))
    return mask


@pytest.fixture(scope="module")
def photo():
    return smooth(0)


@pytest.fixture(scope="module")
def small():
    return mask_of(300, 100, 320, 130)


@pytest.fixture
def edit(pipe):
    def run(image, **options):
        given = {"num_inference_steps": 5, "num_maps_per_mask": 2, "source_prompt": SOURCE, **options}
        return pipe(image, TARGET, generator=torch.Generator().manual_seed(0), **given)

    return run


def outside(mask):
    """Where the image must not change."""
    return np.asarray(mask) == 0


@pytest.mark.families("sd")
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (63, 65), (451, 303), (2000, 11)])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_picture_of_any_size_comes_back_at_its_size(edit, size, preset):
    photo = smooth(1, *size)
    done = edit(photo, preset=preset, mask_threshold=0.2)
    assert done.images[0].size == photo.size
    assert done.pixel_mask.shape == (1, 1, photo.height, photo.width)
    assert done.frames[0].image == photo.size
    if preset == "default":
        kept = done.pixel_mask[0, 0].numpy() == 0
        assert np.array_equal(np.asarray(done.images[0])[kept], np.asarray(photo)[kept])


@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_floats_come_back_in_floats_with_their_own_bits_outside(edit, photo, small, output_type):
    floats = np.float32(np.asarray(photo)) / 255 * 0.999
    image = floats if output_type == "np" else torch.from_numpy(floats).permute(2, 0, 1)
    done = edit(image, mask_image=small, output_type=output_type).images[0]
    done = done if output_type == "np" else done.permute(1, 2, 0).numpy()
    assert done.shape == floats.shape
    kept = outside(small)
    assert np.array_equal(done[kept], floats[kept])
    assert not np.allclose(done[~kept], floats[~kept], atol=0.01)


def test_the_model_works_at_about_its_own_area(edit, photo, counted):
    shapes = []
    done = edit(
        photo,
        mask_image=mask_of(0, 0, 400, 303),
        callback_on_step_end=lambda pipe, step, t, given: shapes.append(given["latents"].shape) or {},
    )
    assert done.frames == (Frame((WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT), (80, 56), done.frames[0].look),)
    assert set(shapes) == {(1, 4, 7, 10)}


def test_another_working_size(edit, photo):
    done = edit(photo, width=96, height=72, mask_threshold=0.2)
    assert done.frames[0].size == (96, 72)
    assert done.mask.shape == (1, 1, 9, 12)
    assert done.images[0].size == photo.size


def test_a_picture_that_was_searched_is_not_encoded_again(edit, pipe, photo, monkeypatch):
    calls = []
    encode = pipe.vae.encode
    monkeypatch.setattr(pipe.vae, "encode", lambda pixels: calls.append(pixels.shape) or encode(pixels))
    monkeypatch.setattr(searching, "closer_view", lambda pipe, view, *_: view)
    assert edit(photo).frames[0].is_whole
    assert calls == [(1, 3, 56, 80)]


@pytest.mark.families("sd", "sdxl")
def test_a_small_mask_is_looked_at_closer(edit, photo, small):
    done = edit(photo, mask_image=small)
    (frame,) = done.frames
    left, upper, right, lower = frame.box
    assert frame.size == (64, 64)
    assert left < 300
    assert upper < 100
    assert right > 320
    assert lower > 130
    assert frame.box_size == (66, 66)  # 2.2 times the mask's longer side
    kept = outside(small)
    result = np.asarray(done.images[0])
    assert np.array_equal(result[kept], np.asarray(photo)[kept])
    assert not np.array_equal(result[~kept], np.asarray(photo)[~kept])
    assert edit(photo, mask_image=small, focus=False).frames[0].is_whole


def test_a_closer_view_is_the_edit_of_what_is_seen(edit, photo):
    """If the part has the model's own size, nothing is resized: the same as editing the part cut out by hand."""
    mask = mask_of(300, 100, 329, 120)  # of which 2.2 times is 63.8
    done = edit(photo, mask_image=mask, output_type="np")
    box = done.frames[0].box
    alone = edit(photo.crop(box), mask_image=mask.crop(box), output_type="np")
    assert alone.frames[0].is_plain
    left, upper, right, lower = box
    assert np.array_equal(done.images[0][upper:lower, left:right], alone.images[0])


def test_a_closer_view_may_be_asked_for(edit, picture):
    mask = mask_of(30, 20, 34, 24, *picture.size)
    assert edit(picture, mask_image=mask).frames[0].is_plain
    frame = edit(picture, mask_image=mask, focus=True).frames[0]
    assert not frame.is_whole
    assert frame.box_size == (16, 16)  # a quarter of the model's
    assert frame.size == (64, 64)


def test_edits_of_one_picture_each_look_where_their_mask_is(edit, photo, small):
    other = mask_of(20, 200, 60, 230)
    done = edit(photo, mask_image=[small, other])
    assert len(done.frames) == 2
    assert done.frames[0].box != done.frames[1].box
    for image, mask in zip(done.images, (small, other), strict=True):
        kept = outside(mask)
        assert np.array_equal(np.asarray(image)[kept], np.asarray(photo)[kept])
        alone = np.float32(edit(photo, mask_image=mask).images[0])
        np.testing.assert_allclose(np.float32(image), alone, atol=1)  # rounding of batches
    again = edit(photo, mask_image=[small, other], trajectory=done.trajectory)
    assert again.frames == done.frames
    for one, two in zip(done.images, again.images, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(two))


@pytest.mark.families("sd")
def test_where_nothing_is_edited_the_picture_comes_back(edit, photo):
    for options in ({}, {"focus": True}, {"preserve_background": False}):
        with pytest.warns(UserWarning, match="is empty"):
            done = edit(photo, mask_image=mask_of(0, 0, 0, 0), **options)
        assert np.array_equal(np.asarray(done.images[0]), np.asarray(photo))


@pytest.mark.families("sd")
def test_without_preserving_all_that_was_worked_at_is_new(edit, photo, small):
    done = edit(photo, mask_image=small, preserve_background=False)
    left, upper, right, lower = done.frames[0].box
    result, own = np.asarray(done.images[0]), np.asarray(photo)
    seen = np.zeros(own.shape[:2], dtype=bool)
    seen[upper:lower, left:right] = True
    assert np.array_equal(result[~seen], own[~seen])
    assert (result[seen] != own[seen]).mean() > 0.9


@pytest.mark.families("sd")
def test_inside_a_found_mask_too_what_looks_the_same_keeps_its_pixels(edit, photo, monkeypatch):
    """What does not is the edit's, at the image's own size and at another; a shaped mask is used as it is."""
    for image in (photo, photo.crop((0, 0, 64, 64))):
        done = edit(image, mask_threshold=0.1)
        monkeypatch.setattr(stitching, "SEEN", (2.0, 3.0))
        kept = edit(image, mask_threshold=0.1)
        assert torch.equal(kept.pixel_mask, done.pixel_mask)
        assert np.array_equal(np.asarray(kept.images[0]), np.asarray(image))
        shaped = edit(image, mask_threshold=0.1, mask_grow=0)
        assert not np.array_equal(np.asarray(shaped.images[0]), np.asarray(image))
        monkeypatch.undo()
        assert not np.array_equal(np.asarray(done.images[0]), np.asarray(image))


@pytest.mark.families("sd")
def test_growing_and_feathering_are_measured_as_the_model_sees(edit, photo):
    mask = mask_of(300, 100, 358, 150)
    done = edit(photo, mask_image=mask, mask_grow=2, mask_feather=1.0)
    assert done.frames[0].scale == pytest.approx(2.14, abs=0.3)
    whole = done.pixel_mask[0, 0]
    assert whole[125, 295] > 0.5  # grown by about four of its pixels
    assert whole[125, 289] < 0.5
    assert whole[125, 301] < 1 or whole[125, 296] < 1  # soft


def test_a_trajectory_remembers_its_picture(edit, photo, small, tmp_path):
    first = edit(photo, mask_image=small)
    path = tmp_path / "t.safetensors"
    first.trajectory.save(path)
    kept = Trajectory.load(path)
    assert kept.frames == first.frames
    again = edit(photo, mask_image=small, trajectory=kept)
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(first.images[0]))
    moved = edit(photo, mask_image=mask_of(296, 96, 310, 120), trajectory=kept)
    assert moved.frames == first.frames
    refused = {
        "that one has 451 x 303 pixels, this one 303 x 451": (
            photo.transpose(PIL.Image.Transpose.ROTATE_90),
            {},
        ),
        "they are of one size and look different": (smooth(5), {}),
    }
    for reason, (image, options) in refused.items():
        with pytest.raises(
            ValueError, match=f"The `trajectory` is of another picture than `image`: {reason}"
        ):
            edit(image, trajectory=kept, **options)
    with pytest.raises(ValueError, match="`mask_image` reaches beyond the part that the `trajectory` covers"):
        edit(photo, mask_image=mask_of(20, 200, 60, 230), trajectory=kept)
    with pytest.raises(ValueError, match="`focus=False` does not go with a `trajectory` of a part"):
        edit(photo, mask_image=small, trajectory=kept, focus=False)
    with pytest.raises(ValueError, match="was made at 64 x 64, and `width` x `height` is 80 x 56"):
        edit(photo, mask_image=small, trajectory=kept, width=80, height=56)


def test_a_whole_trajectory_is_not_looked_at_closer(edit, photo, small):
    whole = edit(photo, mask_image=small, focus=False)
    again = edit(photo, mask_image=small, trajectory=whole.trajectory)
    assert again.frames == whole.frames
    with pytest.raises(ValueError, match="`focus=True` does not go with a `trajectory` of the whole picture"):
        edit(photo, mask_image=small, trajectory=whole.trajectory, focus=True)


def test_a_mask_remembers_its_picture(edit, photo, small):
    first = edit(photo, mask_image=small)
    kept = mask_as_image(first.pixel_mask[0], first.frames[0])
    again = edit(photo, mask_image=kept)
    assert again.frames == first.frames
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(first.images[0]))
    with pytest.raises(
        ValueError, match="The `mask_image` is of another picture than `image`: they are of one"
    ):
        edit(smooth(5), mask_image=kept)
    with pytest.raises(ValueError, match="that one has 451 x 303 pixels, this one 400 x 300"):
        edit(smooth(0, 400, 300), mask_image=kept)


def test_the_stages_work_at_any_size(pipe, edit, photo, small):
    mask = pipe.generate_mask(photo, TARGET, source_prompt=SOURCE, num_inference_steps=5, num_maps_per_mask=2)
    assert mask.shape == (1, 7, 10)
    trajectory = pipe.invert(image=photo, num_inference_steps=5).trajectory
    done = edit(photo, mask_image=small, trajectory=trajectory)
    assert done.images[0].size == photo.size
    assert np.array_equal(np.asarray(done.images[0])[outside(small)], np.asarray(photo)[outside(small)])
    latents = pipe.invert(image=photo, num_inference_steps=5).latents
    assert edit(photo, mask_image=small, image_latents=latents).images[0].size == photo.size


REFUSED = {
    "half a size": ({"width": 64}, r"Pass both `height` and `width`, or neither, got None and 64"),
    "no multiples": (
        {"width": 100, "height": 64},
        r"`width` x `height` is 100 x 64, but the model takes only multiples of 8 on both sides.* are 96 x 64",
    ),
    "no number": ({"width": 64.5, "height": 64}, "`width` must be"),
    "no focus": ({"focus": 1}, "`focus` must be True, False or None to choose by the mask, got 1"),
    "no words": (
        {"focus": True, "source_prompt": TARGET},
        "finds the part to work at by the words that only one of the two prompts has",
    ),
    "another shape": (
        {"mask_image": PIL.Image.new("L", (64, 64), 255)},
        "`mask_image` is 64 x 64 and the picture 451 x 303, which is another shape",
    ),
}


@pytest.mark.families("sd", "sdxl")
@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_before_any_work(edit, photo, counted, options, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        edit(photo, **options)
    assert counted.evaluations == 0


def test_focus_needs_pixels(edit, picture, pipe, counted):
    trajectory = edit(picture).trajectory
    before = counted.evaluations
    with pytest.raises(ValueError, match=r"`focus=True` (cuts a part|does not go with)"):
        edit(None, trajectory=trajectory, focus=True)
    with pytest.raises(ValueError, match="`image` holds latents, which keep their size"):
        edit(torch.randn(1, 4, 8, 8), width=64, height=64)
    assert counted.evaluations == before


@pytest.mark.families("sd")
def test_a_long_picture_s_edits_may_not_be_seen_side_by_side(edit):
    photo = smooth(2, 600, 40)
    masks = [mask_of(100, 10, 120, 20, 600, 40), mask_of(300, 0, 420, 40, 600, 40)]
    with pytest.raises(ValueError, match="what surrounds their masks is of different shapes"):
        edit(photo, mask_image=masks, focus=True)
    assert all(frame.is_whole for frame in edit(photo, mask_image=masks).frames)


@pytest.fixture(scope="module")
def lesson(make_style_pipe, photo, small):
    return make_style_pipe().learn_mapping(photo, SOURCE, 4, settings=QUICK, mask_image=small)


@pytest.mark.families("sd", "sdxl")
def test_a_learned_picture_is_laid_over_the_original(style_pipe, lesson, photo, small, tmp_path):
    frame = Frame.read(lesson.config["frame"])
    assert frame.image == photo.size
    assert frame.size == (64, 64)
    assert not frame.is_whole
    lesson.save_pretrained(tmp_path)
    kept = MappingNetwork.from_pretrained(tmp_path)
    done = style_pipe(TARGET, kept, image=photo, mask_image=small, preserve_background=True)
    result, own, outer = np.asarray(done.images[0]), np.asarray(photo), outside(small)
    assert done.images[0].size == photo.size
    assert np.array_equal(result[outer], own[outer])
    assert not np.array_equal(result[~outer], own[~outer])
    assert style_pipe(TARGET, kept).images[0].size == (64, 64)


def test_a_learned_picture_refuses_others(style_pipe, lesson, photo, counted):
    refused = {
        "they are of one size and look different": {"image": smooth(5)},
        "that one has 451 x 303 pixels, this one 64 x 48": {"image": smooth(5, 64, 48)},
    }
    for reason, options in refused.items():
        match = rf"`image` must be the learned picture, 451 x 303 pixels \(width x height\): {reason}"
        with pytest.raises(ValueError, match=match):
            style_pipe(TARGET, lesson, **options)
    with pytest.raises(ValueError, match="reaches beyond the part that the `mapping_network` covers"):
        style_pipe(TARGET, lesson, image=photo, mask_image=mask_of(20, 200, 60, 230))
    with pytest.raises(
        ValueError, match="`focus=True` learns the surroundings of `mask_image`; pass a mask too"
    ):
        style_pipe.learn_mapping(photo, SOURCE, 4, settings=QUICK, focus=True)
    assert counted.evaluations == 0


def test_a_network_of_before_is_of_a_whole_picture_as_it_was(style_pipe, learned, picture):
    older = copy.deepcopy(learned)
    older.register_to_config(frame=None)
    done = style_pipe(TARGET, older, image=picture)
    assert done.images[0].size == picture.size
    with pytest.raises(ValueError, match=re.escape("`image` must be the learned picture, 64 x 48 pixels")):
        style_pipe(TARGET, older, image=smooth(1))


@pytest.fixture(scope="module")
def still_life():
    pipe = DiffEditPipeline.from_pretrained(model_path())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def small_things():
    return small_cases(2, "colour", "validation")


@pytest.mark.parametrize("number", [0, 1])
def test_a_small_thing_is_found_by_its_words(still_life, small_things, number):
    """The closer view holds all that is to change, shows it several times larger, and makes a better edit."""
    case = small_things[number]
    rows, columns = np.nonzero(case.changed_mask)

    def error(**options):
        given = {"num_inference_steps": 10, "generator": torch.Generator().manual_seed(0), **options}
        done = still_life(case.image, case.prompt, case.source_prompt, **given)
        difference = np.float32(done.images[0]) - np.float32(case.target_image)
        return done.frames[0], np.square(difference).mean()

    frame, close = error()
    left, upper, right, lower = frame.box
    assert left <= columns.min() <= columns.max() < right
    assert upper <= rows.min() <= rows.max() < lower
    assert frame.share < 0.5
    assert close < error(focus=False)[1]
