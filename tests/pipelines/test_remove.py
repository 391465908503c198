"""`remove`: the mask's inside is filled from its surroundings before it is edited."""

import numpy as np
import PIL.Image
import pytest
import torch

from semantic_edit.editing.filling import filled_inside

pytestmark = pytest.mark.families("sd", slow=["sdxl"])
LEFT = "a mug on grass"
QUICK = {"num_inference_steps": 5, "focus": False}


@pytest.fixture
def mask():
    marked = np.zeros((48, 64), dtype=np.uint8)
    marked[16:32, 24:48] = 255
    return PIL.Image.fromarray(marked)


def test_it_edits_the_filled_image_within_the_mask(pipe, picture, mask):
    removed = pipe.remove(picture, LEFT, mask, **QUICK)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    inside = torch.from_numpy(np.array(mask) > 0)[None, None]
    filled = filled_inside(pixels / 255, inside)
    usual = {"inpaint_strength": 0.4, "guidance_scale": 1.0}
    same = pipe((255 * filled).round().byte(), LEFT, mask_image=mask, **usual, **QUICK)
    assert np.array_equal(np.asarray(removed.images[0]), np.asarray(same.images[0]))
    outside = np.array(mask) == 0
    assert np.array_equal(np.asarray(removed.images[0])[outside], np.array(picture)[outside])
    assert removed.trajectory is None


def test_what_the_mask_hides_has_no_effect(pipe, picture, mask):
    spoiled = np.array(picture)
    spoiled[np.array(mask) > 0] = 255 - spoiled[np.array(mask) > 0]
    one, other = (pipe.remove(image, LEFT, mask, **QUICK).images[0] for image in (picture, spoiled))
    assert np.array_equal(np.asarray(one), np.asarray(other))


def test_its_mask_is_shaped_once(pipe, picture, mask):
    found = pipe.locate(picture, prompt=LEFT, mask_image=mask, mask_grow=3, **QUICK)
    removed = pipe.remove(picture, LEFT, mask, mask_grow=3, **QUICK)
    assert torch.equal(removed.pixel_mask, (found.pixel_mask >= 0.5).float())
    assert removed.pixel_mask.sum() > (np.array(mask) > 0).sum()


def test_the_calls_own_strength_and_guidance_are_taken(pipe, picture, mask):
    strong = pipe.remove(picture, LEFT, mask, inpaint_strength=1.0, guidance_scale=5.0, **QUICK)
    usual = pipe.remove(picture, LEFT, mask, **QUICK)
    assert not np.array_equal(np.asarray(strong.images[0]), np.asarray(usual.images[0]))


def test_several_images_and_kinds_of_images(pipe, pictures, mask):
    both = pipe.remove(pictures[:2], LEFT, mask, output_type="np", **QUICK).images
    floats = torch.stack([torch.from_numpy(np.array(one)) for one in pictures[:2]]).permute(0, 3, 1, 2) / 255
    same = pipe.remove(floats, LEFT, mask, output_type="np", **QUICK).images
    assert np.abs(both - same).mean() < 0.01
    alone = pipe.remove(pictures[1], LEFT, mask, output_type="np", **QUICK).images
    assert np.abs(both[1] - alone[0]).mean() < 0.01


def test_what_cannot_be_filled_is_refused(pipe, picture, counted):
    white = PIL.Image.new("L", picture.size, 255)
    with pytest.raises(
        ValueError, match="`mask_image` covers the whole image, so nothing is left to fill it from"
    ):
        pipe.remove(picture, LEFT, white, **QUICK)
    with pytest.raises(TypeError, match="`remove` takes the arguments of a call, which has no `grow`"):
        pipe.remove(picture, LEFT, white, grow=3)
    with pytest.raises(ValueError, match="`remove` fills the `image` in pixels"):
        pipe.remove(torch.randn(1, 4, 6, 8), LEFT, white, **QUICK)
    with pytest.raises(
        ValueError, match="`remove` needs a `mask_image`: white where the image shows what is to go"
    ):
        pipe.remove(picture, LEFT, None)
    assert counted.samples == 0


def test_a_tuple_is_returned_on_request(pipe, picture, mask):
    images, *_ = pipe.remove(picture, LEFT, mask, return_dict=False, **QUICK)
    assert np.array_equal(
        np.asarray(images[0]), np.asarray(pipe.remove(picture, LEFT, mask, **QUICK).images[0])
    )


def test_a_negative_prompt_turns_guidance_on(pipe, picture, mask, counted):
    pipe.remove(picture, LEFT, mask, **QUICK)
    unguided = counted.samples
    pipe.remove(picture, LEFT, mask, negative_prompt="a bottle", **QUICK)
    assert counted.samples - unguided > unguided


@pytest.mark.parametrize("name", ["trajectory", "image_latents"])
def test_inversions_of_other_images_are_refused(pipe, picture, mask, name):
    kept = pipe.invert(image=picture, num_inference_steps=5)
    given = {"trajectory": kept.trajectory, "image_latents": kept.latents}[name]
    with pytest.raises(
        ValueError, match=f"`{name}` does not go with `remove`, which inverts the filled image"
    ):
        pipe.remove(picture, LEFT, mask, **{name: given}, **QUICK)


def test_feathered_edges_are_kept(pipe, picture, mask):
    soft = pipe.remove(picture, LEFT, mask, mask_feather=3.0, **QUICK).pixel_mask
    assert ((soft > 0) & (soft < 1)).any()
