import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from semantic_edit.editing.mask_shapes import (
    MaskShape,
    feather_mask,
    grow_mask,
    mask_to_latents,
    mask_to_tensor,
    resize_mask,
    shape_mask,
)

binary = hnp.arrays("bool", (11, 13))


@pytest.fixture
def square():
    mask = np.zeros((6, 8), dtype=bool)
    mask[2:4, 3:6] = True
    return mask


def as_forms(mask: np.ndarray) -> dict[str, object]:
    eight_bit = (255 * mask).astype(np.uint8)
    forms: dict[str, object] = {
        "bool array": mask,
        "bool tensor": torch.from_numpy(mask),
        "8-bit array": eight_bit,
        "8-bit zeros and ones": mask.astype(np.uint8),
        "float array": mask.astype(np.float64),
        "half tensor": torch.from_numpy(mask).half()[None, None],
        "array with a channel": eight_bit[..., None],
        "array with batch and channel": eight_bit[None, ..., None],
        "list": [mask],
        "L": PIL.Image.fromarray(eight_bit),
        "big-endian floats": mask.astype(">f4"),
        "long doubles": mask.astype(np.longdouble),
        "16-bit array": (65535 * mask).astype(">u2"),
        "16-bit tensor": torch.from_numpy((65535 * mask).astype(np.uint16)),
        "16-bit zeros and ones": mask.astype(np.uint16),
        "a little overshoot": mask * 1.04 - 0.02,
        "L of zeros and ones": PIL.Image.fromarray(mask.astype(np.uint8)),
        "16 bits": PIL.Image.fromarray((65535 * mask).astype(np.uint16)),
    }
    picture = PIL.Image.fromarray(eight_bit)
    forms.update({mode: picture.convert(mode) for mode in ("1", "RGB", "RGBA", "P", "CMYK")})
    return forms


@pytest.mark.parametrize("form", list(as_forms(np.zeros((2, 2), dtype=bool))))
def test_every_form_of_a_mask_is_the_same_mask(square, form):
    result = mask_to_tensor(as_forms(square)[form])
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.from_numpy(square).float()[None, None], rtol=0, atol=1e-6)


def test_soft_values_are_kept_and_the_callers_mask_is_not_written_to():
    mask = torch.tensor([[0.0, 0.25], [0.6, 1.0]])
    before = mask.clone()
    result = shape_mask(mask_to_tensor(mask), 4, 4, MaskShape(grow=1, feather=1.0))
    result.zero_()
    assert torch.equal(mask, before)
    torch.testing.assert_close(mask_to_tensor(mask)[0, 0], before)
    array = np.array([[0.0, 0.25]])
    mask_to_tensor(array).zero_()
    assert array[0, 1] == 0.25


def test_transparent_parts_of_a_picture_are_no_mask():
    picture = PIL.Image.new("RGBA", (4, 2), (255, 255, 255, 255))
    picture.putpixel((0, 0), (255, 255, 255, 0))
    assert mask_to_tensor(picture)[0, 0, 0].tolist() == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([], "empty list"),
        ("mask.png", "must be a PIL image.*got str"),
        (np.zeros((2, 3, 4, 5)), r"must have shape .* got \(2, 3, 4, 5\)"),
        (np.zeros(5), r"got \(5,\)"),
        (np.full((2, 2), np.nan), "NaN or infinite"),
        (np.zeros((6, 8, 3)), r"got \(6, 8, 3\). A mask has one channel"),
        (np.zeros((6, 8, 4), np.uint8), r"got \(6, 8, 4\). A mask has one channel"),
        (torch.zeros(1, 3, 6, 8), r"got \(1, 3, 6, 8\). A mask has one channel"),
        (np.full((2, 2), None), "`mask_image` is an array of object, and no array of numbers"),
        (torch.zeros(2, 2).to_sparse(), "pass a dense one of real numbers"),
        (np.full((2, 2), 2.0), r"must hold floats in \[0, 1\], got values from 2 to 2"),
        (np.full((2, 2), -1), r"got values from -1 to -1"),
        (PIL.Image.new("F", (2, 2)), "mode 'F', whose range is not known"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], "differ in size"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        mask_to_tensor(mask)


@settings(max_examples=25, deadline=None)
@given(binary, st.integers(0, 4))
def test_growing_and_shrinking_are_opposites(array, pixels):
    mask = torch.from_numpy(array).float()[None, None]
    grown, shrunk = grow_mask(mask, pixels), grow_mask(mask, -pixels)
    assert (shrunk <= mask).all()
    assert (mask <= grown).all()
    assert torch.equal(grow_mask(1 - mask, pixels), 1 - shrunk)
    assert (grow_mask(grown, -pixels) >= mask).all()  # a closing


def test_growing_goes_so_many_pixels_on_every_side():
    mask = torch.zeros(1, 1, 9, 11)
    mask[..., 4, 5] = 1
    grown = grow_mask(mask, 2)
    assert grown.sum() == 25
    assert torch.equal(grown[0, 0, 2:7, 3:8], torch.ones(5, 5))


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 12, 13, 14, 40, 41, 100, 10_000])
def test_growing_is_the_maximum_of_a_square(pixels):
    mask = torch.rand(2, 1, 37, 23, generator=torch.Generator().manual_seed(0))
    reach = min(pixels, 40)
    square = F.max_pool2d(F.pad(mask, [reach] * 4, value=-1.0), 2 * reach + 1, stride=1)
    assert torch.equal(grow_mask(mask, pixels), square)
    assert torch.equal(grow_mask(mask, -pixels), 1 - grow_mask(1 - mask, pixels))


def test_the_widest_growth_and_blur_end_soon():
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., :128] = 1
    assert grow_mask(mask, 10_000).min() == 1
    soft = feather_mask(mask, 1000)  # padded on both sides at once, it would take a gigabyte
    assert 0.4 < soft.min() < soft.max() < 0.6


@settings(max_examples=25, deadline=None)
@given(binary, st.floats(0.3, 3))
def test_feathering_stays_in_range_and_in_reach(array, sigma):
    mask = torch.from_numpy(array).float()[None, None]
    soft = feather_mask(mask, sigma)
    assert soft.min() >= 0
    assert soft.max() <= 1
    reach = max(1, int(np.ceil(3 * sigma)))
    assert not soft[grow_mask(mask, reach) == 0].any()
    assert (soft[grow_mask(mask, -reach) == 1] == 1).all()


def test_a_latent_mask_survives_the_way_to_pixels_and_back():
    mask = (torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert torch.equal(mask_to_latents(shape_mask(mask, 48, 64, MaskShape()), 8), mask)
    assert torch.equal(resize_mask(mask, 6, 8), mask)


@pytest.mark.parametrize("size", [(5, 7), (48, 64), (96, 128), (100, 33), (1, 1), (12, 512)])
def test_masks_of_any_size_keep_their_values(size):
    resized = resize_mask(torch.ones(1, 1, *size), 48, 64)
    assert resized.shape == (1, 1, 48, 64)
    torch.testing.assert_close(resized, torch.ones(1, 1, 48, 64))
    halves = torch.zeros(1, 1, *size)
    halves[..., size[1] // 2 :] = 1
    assert 0.3 < float(resize_mask(halves, 48, 64).mean()) <= 1
