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


@pytest.mark.families("sd", slow=["sdxl"])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
@pytest.mark.parametrize("options", [{}, {"mask_grow": 3}, {"preset": "paper", "num_inference_steps": 10}])
def test_masks_of_another_threshold_are_those_that_it_would_have_found(pipe, picture, threshold, options):
    found = pipe.locate(picture, SOURCE, TARGET, generator=seeded(), **options)
    expected = pipe.locate(picture, SOURCE, TARGET, generator=seeded(), mask_threshold=threshold, **options)
    redrawn = found.masks_at(threshold)
    assert (redrawn.pixel_mask != found.pixel_mask).any()
    for name in ("pixel_mask", "soft_mask", "mask_confidence", "mask_coherence"):
        torch.testing.assert_close(redrawn[name], expected[name], rtol=0, atol=0)
    assert redrawn.frames == expected.frames
    assert np.array_equal(np.asarray(redrawn.masks[0]), np.asarray(expected.masks[0]))
    again = redrawn.masks_at(0.5)
    torch.testing.assert_close(again.pixel_mask, found.pixel_mask, rtol=0, atol=0)


@pytest.mark.families("sd", slow=["sdxl"])
def test_an_edits_mask_is_drawn_again_without_the_model(pipe, picture, monkeypatch):
    edit = pipe(picture, TARGET, SOURCE, generator=seeded(), num_inference_steps=5)
    expected = pipe.locate(
        picture, SOURCE, TARGET, generator=seeded(), num_inference_steps=5, mask_threshold=0.7
    )
    for network, call in (
        ("unet", "forward"),
        ("text_encoder", "forward"),
        ("vae", "encode"),
        ("vae", "decode"),
    ):
        monkeypatch.setattr(getattr(pipe, network), call, lambda *_, **__: pytest.fail("evaluated"))
    torch.testing.assert_close(edit.masks_at(0.7).pixel_mask, expected.pixel_mask, rtol=0, atol=0)


@pytest.mark.families("sd", slow=["sdxl"])
def test_only_a_mask_that_was_found_is_drawn_at_another_threshold(pipe, picture):
    given = pipe.locate(picture, SOURCE, TARGET, mask_image=picture.convert("L"))
    with pytest.raises(ValueError, match="`masks_at` draws masks that were found, and these were given"):
        given.masks_at(0.4)
    found = pipe.locate(picture, SOURCE, TARGET, generator=seeded())
    with pytest.raises(ValueError, match=r"`mask_threshold` must .* got 1\.5"):
        found.masks_at(1.5)
