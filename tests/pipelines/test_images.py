import io
import struct
import warnings

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import torch

from semantic_edit.pipelines.images import read_images


@pytest.fixture(scope="module")
def array(picture):
    return np.array(picture)


def pixels(image, factor=8):
    read = read_images(image, factor).pixels
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
        read = read_images(form)
        assert read.pixels is None
        assert torch.equal(read.latents, latents)
        assert read.batch_size == 2


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", "<f2", np.longdouble])
def test_floats_of_any_kind_are_read(array, dtype):
    read = pixels((array / 255).astype(dtype))
    np.testing.assert_allclose(read[0].permute(1, 2, 0).numpy(), array / 255, atol=1e-3)


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_sixteen_bits_of_any_kind_are_read(array, dtype):
    wide = (257 * array.astype(np.uint16)).astype(dtype)
    for form in (wide, torch.from_numpy(wide.astype(np.uint16)).permute(2, 0, 1)):
        np.testing.assert_allclose(pixels(form)[0].permute(1, 2, 0).numpy(), array / 255, atol=1e-6)


def test_arrays_that_cannot_be_written_to_or_go_backwards_are_read(array):
    own = array.copy()
    own.flags.writeable = False
    assert torch.equal(pixels(own), pixels(array))
    assert torch.equal(pixels(array[::-1]), pixels(array).flip(2))


def test_a_little_overshoot_is_clipped():
    values = np.linspace(-0.02, 1.02, 64, dtype=np.float32).reshape(8, 8)
    read = pixels(values)[0, 0].numpy()
    np.testing.assert_array_equal(read, values.clip(0, 1))
    assert pixels(np.full((8, 8), np.nextafter(np.float32(1), 2)))[0].max() == 1
    with pytest.raises(ValueError, match=r"got values from -0.03 to 0.5"):
        pixels(np.linspace(-0.03, 0.5, 64).reshape(8, 8))


@pytest.mark.parametrize("kind", ["floats", "8 bits"])
def test_a_tensor_with_transparency_is_not_taken_for_latents(kind):
    rgba = (
        torch.rand(4, 32, 32) if kind == "floats" else torch.randint(0, 256, (4, 32, 32), dtype=torch.uint8)
    )
    for form in (rgba, rgba[None], [rgba]):
        with pytest.raises(ValueError, match=r"four channels .* transparency.*Lay it over a background"):
            read_images(form)
    over_white = rgba[:3] * rgba[3:] + 1 - rgba[3:] if kind == "floats" else rgba[:3]
    assert pixels(over_white).shape == (1, 3, 32, 32)
    as_array = np.asarray(rgba.permute(1, 2, 0))
    with pytest.warns(UserWarning, match="transparent in places"):
        assert pixels(as_array).shape == (1, 3, 32, 32)


def test_transparency_s_loss_is_told_where_there_is_some():
    picture = PIL.Image.new("RGBA", (8, 8), (10, 20, 30, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opaque = pixels(picture)
    assert torch.equal(opaque, pixels(picture.convert("RGB")))
    picture.putpixel((0, 0), (0, 0, 0, 254))
    with pytest.warns(UserWarning, match="`image` is transparent in places; they are laid over white"):
        pixels(picture)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return PIL.Image.open(file)


def test_further_frames_are_told(picture):
    frames = [picture.convert("P"), picture.rotate(90).convert("P")]
    opened = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="`image` holds 2 frames, of which only number 1 is taken"):
        read = pixels(opened)
    np.testing.assert_allclose(read[0].permute(1, 2, 0).numpy(), np.float32(frames[0].convert("RGB")) / 255)


def wide_gamut():
    """A profile whose red is redder than sRGB's: sRGB's profile with two changed columns."""
    profile = bytearray(PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(count)}
    # colorants of Display P3, adapted to D50
    for tag, xyz in {
        b"rXYZ": (0.51512, 0.2412, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.1571, 0.06657, 0.78407),
    }.items():
        offset = int.from_bytes(profile[tags[tag] : tags[tag] + 4], "big") + 8
        for place, value in enumerate(xyz):
            profile[offset + 4 * place : offset + 4 * place + 4] = round(value * 65536).to_bytes(
                4, "big", signed=True
            )
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_wide_gamut_is_brought_to_srgb_through_its_profile(mode):
    """(0.8, 0.3, 0.3) of Display P3 is redder in sRGB."""
    picture = PIL.Image.new("RGB", (8, 8), (204, 77, 77))
    picture = picture.quantize() if mode == "P" else picture.convert(mode)
    opened = saved(picture, "PNG", icc_profile=wide_gamut())
    red, green, blue = (255 * pixels(opened)[0, :, 4, 4]).round().tolist()
    assert red == pytest.approx(220, abs=3)
    assert green == pytest.approx(66, abs=4)
    assert blue == pytest.approx(74, abs=4)


def test_srgbs_own_profile_keeps_every_bit(picture):
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    assert torch.equal(pixels(saved(picture, "PNG", icc_profile=profile)), pixels(picture))


def test_a_wide_gamut_s_transparency_stays():
    picture = PIL.Image.new("RGBA", (8, 8), (204, 77, 77, 0))
    picture.putpixel((1, 1), (204, 77, 77, 255))
    with pytest.warns(UserWarning, match="transparent"):
        read = pixels(saved(picture, "PNG", icc_profile=wide_gamut()))
    assert read[0, :, 4, 4].tolist() == [1, 1, 1]
    assert 255 * read[0, 0, 1, 1] == pytest.approx(220, abs=3)


@pytest.mark.parametrize("profile", [b"nonsense", wide_gamut()[:200]])
def test_a_damaged_profile_is_told_and_left_out(picture, profile):
    with pytest.warns(UserWarning, match="`image` has a colour profile that cannot be read"):
        assert torch.equal(pixels(saved(picture, "PNG", icc_profile=profile)), pixels(picture))


def test_a_profile_of_other_colours_is_told_and_left_out(picture):
    grey = picture.convert("CMYK")
    grey.info["icc_profile"] = wide_gamut()
    with pytest.warns(UserWarning, match="or is of other colours than its own; it is left out"):
        pixels(grey)


@pytest.mark.parametrize("text", [b"6\0", b"upside down\0"])
def test_an_orientation_that_is_text_turns_nothing(picture, text):
    entry = struct.pack("<HHHI", 1, 0x0112, 2, len(text)) + (
        text.ljust(4, b"\0") if len(text) <= 4 else struct.pack("<I", 26)
    )
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry + bytes(4) + text
    assert torch.equal(pixels(saved(picture, "PNG", exif=exif)), pixels(picture))


def test_what_is_closed_or_cut_short_is_refused(picture, tmp_path):
    picture.save(tmp_path / "whole.png")
    opened = PIL.Image.open(tmp_path / "whole.png")
    opened.close()
    content = (tmp_path / "whole.png").read_bytes()
    for broken in (opened, PIL.Image.open(io.BytesIO(content[: len(content) // 2]))):
        with pytest.raises(
            ValueError, match=r"`image` cannot be read .*damaged, cut short or closed. Open it anew"
        ):
            pixels(broken)


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
        (np.zeros((8, 8, 3), bool), ValueError, "holds booleans"),
        (PIL.Image.new("I", (8, 8)), ValueError, "mode 'I', whose range of values is not known"),
        (PIL.Image.new("F", (8, 8)), ValueError, "mode 'F', whose range of values is not known"),
        (np.zeros((0, 0, 3)), ValueError, "has no pixels: it is 0 x 0"),
        (np.zeros((0, 8, 4), np.uint8), ValueError, "has no pixels: it is 8 x 0"),
        (torch.zeros(4, 0, 0), ValueError, "latents without values"),
        (PIL.Image.new("RGB", (0, 0)), ValueError, "has no pixels|cannot be read"),
        (np.full((8, 8, 3), "a", object), ValueError, "an array of object, and no array of numbers"),
        (np.full((8, 8, 3), 1j), ValueError, "an array of complex128, and no array of numbers"),
        (np.full((8, 8, 3), "a"), ValueError, "and no array of numbers"),
        (
            torch.zeros(3, 8, 8).to_sparse(),
            ValueError,
            r"pass a dense one of real numbers, as `.to_dense\(\)`",
        ),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), ValueError, "pass a dense one of real numbers"),
        (torch.zeros(4, 8, 8).to_sparse(), ValueError, "pass a dense one of real numbers"),
        (torch.zeros(3, 8, 8, device="meta"), ValueError, "a tensor without values"),
        ([], ValueError, "empty list"),
        ("apple.png", TypeError, "the text 'apple.png', but must be a picture"),
        (3, TypeError, "must be a PIL image.*got int"),
        ([np.zeros((8, 8, 3)), np.zeros((8, 16, 3))], ValueError, r"differ in size.*\(8, 8\), \(16, 8\)"),
    ],
)
def test_what_cannot_be_read_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        read_images(image, factor=8)
