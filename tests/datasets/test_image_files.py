from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from semantic_edit.datasets.image_files import image_size, load_mask, open_rgb, path_inside
from semantic_edit.datasets.items import RowError


def damaged(path, size=(64, 48)):
    """A PNG with an intact header, whose pixels end half-way."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../out.png", "in/../../out.png", "..\\out.png", "C:\\out.png", "c:out.png", "\\out.png"],
)
def test_no_row_leads_out_of_the_folder(tmp_path, paint, name):
    paint(tmp_path / "out.png")
    (tmp_path / "data").mkdir()
    with pytest.raises(RowError, match="must lie in the dataset's folder: no absolute path and no"):
        path_inside(name, tmp_path / "data")


@pytest.mark.parametrize("name", ["none.png", "in", "a\0b", "x" * 5000, "in/none.png", "\ud800"])
def test_a_file_must_be_there(tmp_path, name):
    (tmp_path / "in").mkdir()
    with pytest.raises(RowError, match="there is no file"):
        path_inside(name, tmp_path)


def test_the_first_folder_that_has_the_file_counts(tmp_path, paint):
    second = paint(tmp_path / "b" / "in" / "x.png")
    assert path_inside("in/x.png", tmp_path / "a", tmp_path / "b") == second
    first = paint(tmp_path / "a" / "in" / "x.png")
    assert path_inside("in/x.png", tmp_path / "a", tmp_path / "b") == first


def test_links_lead_where_the_folders_owner_wants(tmp_path, paint):
    paint(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").symlink_to(tmp_path / "elsewhere")
    assert image_size(path_inside("in/x.png", tmp_path / "data")) == (8, 6)


def test_the_size_is_of_the_upright_picture_as_it_will_be_loaded(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("x.jpg", "x.png", "x.webp"):
        Image.new("RGB", (8, 6)).save(tmp_path / name, exif=exif)
        assert image_size(tmp_path / name) == open_rgb(tmp_path / name).size == (6, 8)


def test_what_is_no_picture_shows_at_once_and_damaged_pixels_when_read(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(RowError, match=r"x.png' is not a picture in a format that Pillow reads"):
        image_size(tmp_path / "x.png")
    broken = damaged(tmp_path / "y.png")
    assert image_size(broken) == (64, 48)
    with pytest.raises(ValueError, match=r"y.png' cannot be read: damaged\? "):
        open_rgb(broken)


def test_too_many_pixels_are_refused(tmp_path, paint, monkeypatch):
    path = paint(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(RowError, match=r"has more than 0 million pixels; shrink it first"):
        image_size(path)


def test_pictures_become_rgb(tmp_path, paint):
    grey = open_rgb(paint(tmp_path / "grey.png", colour=77, mode="L"))
    assert grey.mode == "RGB"
    assert grey.getpixel((0, 0)) == (77, 77, 77)
    clear = open_rgb(paint(tmp_path / "clear.png", colour=(255, 0, 0, 0), mode="RGBA"))
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    Image.fromarray(np.full((6, 8), 77 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert open_rgb(tmp_path / "deep.png").getpixel((0, 0)) == (77, 77, 77)
    paint(tmp_path / "floats.tiff", colour=0.5, mode="F")
    with pytest.raises(RowError, match=r"floats.tiff' has mode F, whose range of values is not known"):
        open_rgb(tmp_path / "floats.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "RGBA"])
def test_a_mask_is_where_its_picture_is_light(tmp_path, mode):
    wanted = np.zeros((6, 8), dtype=bool)
    wanted[2:4, 3:7] = True
    Image.fromarray(np.uint8(255 * wanted)).convert(mode).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.png"), wanted)


def test_a_mask_of_16_bits_or_of_transparency_is_read_alike(tmp_path, paint):
    Image.fromarray(np.uint16([[65535, 0], [40000, 20000]])).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "deep.png"), [[True, False], [True, False]])
    assert not load_mask(paint(tmp_path / "clear.png", colour=(255, 255, 255, 0), mode="RGBA")).any()


def test_a_dark_mask_is_not_taken_for_an_empty_one(tmp_path, paint):
    with pytest.raises(
        ValueError, match=r"is nowhere brighter than 9 of 255; draw it white where the edit goes"
    ):
        load_mask(paint(tmp_path / "mask.png", colour=9, mode="L"))
    assert load_mask(paint(tmp_path / "ones.png", colour=1, mode="L")).all()  # zeros and ones are a mask
    assert not load_mask(paint(tmp_path / "black.png", colour=0, mode="L")).any()
