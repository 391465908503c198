import contextlib
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from semantic_edit.disk.images import UnreadableImage, decoded_image, size_of_file


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tiff", ".webp", ".bmp"])
def test_every_cut_of_a_file_is_read_or_refused_in_a_clause(tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in range(0, len(content), max(1, len(content) // 40)):
        cut.write_bytes(content[:length])
        for read in (decoded_image, size_of_file):
            with contextlib.suppress(
                UnreadableImage
            ):  # anything else is what a person would see as a traceback
                read(cut)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_the_header_tells_the_size_of_the_upright_picture(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.new("RGB", (8, 6)).save(path, exif=exif)
    assert size_of_file(path) == ImageOps.exif_transpose(decoded_image(path)).size


@pytest.mark.parametrize("read", [decoded_image, size_of_file])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.png", "^cannot be read: No such file"),
        (".", "^cannot be read: Is a directory"),
        ("nul\0.png", r"^cannot be read: damaged\? "),
        ("words.png", "^is not a picture in a format that Pillow reads$"),
        ("phone.heic", "^is a HEIC picture, which Pillow reads by a plugin: pip install pillow-heif"),
    ],
)
def test_what_is_no_picture_is_told_in_a_clause(tmp_path, monkeypatch, read, name, reason):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "words.png").write_text("not pixels")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(UnreadableImage, match=reason):
        read(f"{tmp_path}/{name}")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_whose_range_nobody_knows_are_refused(tmp_path, mode):
    Image.new(mode, (8, 6)).save(tmp_path / "x.tiff")
    with pytest.raises(UnreadableImage, match=f"^has mode {mode}, whose range .* save it in 8 bits$"):
        decoded_image(tmp_path / "x.tiff")
    assert size_of_file(tmp_path / "x.tiff") == (8, 6)
