import io

import numpy as np
import PIL.Image
import pytest
import torch

from semantic_edit.pipelines.pictures import read_pictures


@pytest.fixture(scope="module")
def array(picture):
    return np.array(picture)


def pixels(image, factor=8):
    read = read_pictures(image, factor).pixels
    assert read.dtype == torch.float32
    return read


def test_every_form_of_an_rgb_picture_is_the_same_picture(picture, array):
    expected = torch.from_numpy(array).permute(2, 0, 1)[None] / 255.0
    floats = array.astype(np.float32) / 255
    tensor = torch.from_numpy(floats).permute(2, 0, 1)
    forms = [picture, [picture], array, floats, floats[None], [floats], tensor, tensor[None], [tensor]]
    forms += [
        (257 * array.astype(np.uint16)),
        torch.from_numpy(array).permute(2, 0, 1),
        floats.astype(np.float64),
    ]
    for form in forms:
        torch.testing.assert_close(pixels(form), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBA", "RGBX"])
def test_eight_bit_modes_are_converted_as_pillow_does(picture, mode):
    converted = picture.convert("RGBA" if mode == "PA" else mode)
    if mode == "PA":
        converted = converted.convert("P").convert("PA")
    expected = np.asarray(converted.convert("RGB"), dtype=np.float32) / 255
    found = pixels(converted)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1 / 255)


def test_transparency_is_laid_over_white():
    picture = PIL.Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.putpixel((0, 0), (255, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 128))
    read = pixels(picture)[0]
    assert read[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert read[:, 5, 5].tolist() == [1.0, 1.0, 1.0]
    assert read[:, 0, 1].tolist() == pytest.approx([127 / 255] * 3)
    torch.testing.assert_close(pixels(np.asarray(picture))[0], read)


def test_a_palette_with_a_transparent_colour_is_laid_over_white():
    picture = PIL.Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.putpixel((3, 3), 1)
    picture.info["transparency"] = 0
    read = pixels(picture)[0]
    assert read[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    assert read[:, 3, 3].tolist() == pytest.approx([200 / 255, 0, 0])


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    file = io.BytesIO()
    PIL.Image.fromarray(values).save(file, "PNG")
    file.seek(0)
    read = pixels(PIL.Image.open(file))[0]
    np.testing.assert_allclose(read[1].numpy(), values / 65535, atol=1e-6)


def test_exif_orientation_is_applied(array):
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    PIL.Image.fromarray(array).save(file, "PNG", exif=exif)
    file.seek(0)
    opened = PIL.Image.open(file)
    read = pixels(opened)
    assert read.shape[-2:] == (64, 48)
    expected = np.rot90(array, k=-1).astype(np.float32) / 255
    np.testing.assert_allclose(read[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_grey_arrays_and_tensors_get_three_channels(array):
    grey = array[..., 0].astype(np.float32) / 255
    for form in (grey, grey[..., None], torch.from_numpy(grey)[None], torch.from_numpy(grey)[None, None]):
        read = pixels(form)
        assert read.shape == (1, 3, 48, 64)
        np.testing.assert_allclose(read[0, 2].numpy(), grey)


def test_tensors_with_the_vaes_channels_are_latents():
    latents = torch.randn(2, 4, 6, 8)
    for form in (latents, list(latents), [latents]):
        read = read_pictures(form)
        assert read.pixels is None
        assert torch.equal(read.latents, latents)
        assert read.batch_size == 2


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (PIL.Image.new("RGB", (65, 48)), ValueError, r"65 x 48 pixels.*multiples of 8.*to 64 x 48"),
        (np.zeros((6, 8, 3), np.uint8), ValueError, r"8 x 6 pixels.*to 8 x 8"),
        (np.zeros((8, 8, 2)), ValueError, r"An array `image` must have shape .* got \(8, 8, 2\)"),
        (torch.zeros(8, 8, 3), ValueError, r"A tensor `image` must have shape .* got \(8, 8, 3\)"),
        (np.full((8, 8, 3), 255.0), ValueError, r"floats in \[0, 1\], got values from 255 to 255"),
        (torch.full((3, 8, 8), -1.0), ValueError, r"got values from -1 to -1. Bring \[-1, 1\]"),
        (torch.full((3, 8, 8), float("nan")), ValueError, "NaN or infinite"),
        (np.full((8, 8, 3), np.inf), ValueError, "NaN or infinite"),
        (torch.full((4, 8, 8), float("inf")), ValueError, "latents that are not finite"),
        (np.zeros((8, 8, 3), np.int64), ValueError, r"torch.int64 values, whose range is not known"),
        (np.zeros((8, 8, 3), bool), ValueError, "is boolean"),
        (PIL.Image.new("I", (8, 8)), ValueError, "mode 'I', whose range of values is not known"),
        (PIL.Image.new("F", (8, 8)), ValueError, "mode 'F', whose range of values is not known"),
        ([], ValueError, "empty list"),
        ("apple.png", TypeError, "the text 'apple.png', but must be a picture"),
        (3, TypeError, "must be a PIL image.*got int"),
        ([np.zeros((8, 8, 3)), np.zeros((8, 16, 3))], ValueError, r"differ in size.*\(8, 8\), \(16, 8\)"),
    ],
)
def test_what_cannot_be_read_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        read_pictures(image, factor=8)
