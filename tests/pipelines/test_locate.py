"""`locate`: the mask of an edit by itself, for this pipeline or for any inpainting pipeline of diffusers."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.families("sd", "sdxl")
SOURCE, TARGET = "a red apple on grass", "a green pear on grass"


def seeded():
    return torch.Generator().manual_seed(3)


def test_it_is_the_first_half_of_a_call(pipe, picture):
    found = pipe.locate(picture, SOURCE, TARGET, generator=seeded())
    edit = pipe(picture, TARGET, SOURCE, generator=seeded())
    torch.testing.assert_close(found.pixel_mask, edit.pixel_mask, rtol=0, atol=0)
    torch.testing.assert_close(found.soft_mask, edit.soft_mask, rtol=0, atol=0)
    torch.testing.assert_close(found.mask_confidence, edit.mask_confidence, rtol=0, atol=0)
    assert found.frames == edit.frames
    (mask,) = found.masks
    assert (mask.mode, mask.size) == ("L", picture.size)
    assert np.array_equal(np.asarray(mask) == 255, edit.pixel_mask[0, 0].numpy() >= 0.5)


def test_its_mask_edits_as_a_call_would_within_it(pipe, picture):
    (mask,) = pipe.locate(picture, SOURCE, TARGET, generator=seeded()).masks
    edit = pipe(picture, TARGET, SOURCE, mask_image=mask)
    assert np.array_equal(np.asarray(mask) == 255, edit.pixel_mask[0, 0].numpy() == 1)


def test_what_a_call_does_not_take_is_refused(pipe, picture):
    with pytest.raises(TypeError, match="`locate` takes the arguments of a call, which has no `grow`"):
        pipe.locate(picture, SOURCE, TARGET, grow=3)
    with pytest.raises(ValueError, match="`mask_threshold` must"):
        pipe.locate(picture, SOURCE, TARGET, mask_threshold=2)
