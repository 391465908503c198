import os
from pathlib import Path

import pytest
from PIL import Image

from semantic_edit.disk.writing import write_folder
from semantic_edit.files import (
    UsageError,
    check_folder,
    check_images,
    check_outputs,
    check_suffix,
    encode_image,
    read_image,
)


def test_reads_back_what_was_written(picture_file):
    assert read_image(picture_file).size == (64, 48)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.png cannot be read: No such file"):
        read_image(tmp_path / "nowhere.png")


def test_folder_is_no_picture(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_image(tmp_path)


def test_text_is_no_picture(tmp_path):
    (tmp_path / "notes.png").write_text("not pixels")
    with pytest.raises(UsageError, match="is not a picture in a format"):
        read_image(tmp_path / "notes.png")


def test_empty_file_is_no_picture(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(UsageError, match="is not a picture in a format"):
        read_image(tmp_path / "empty.png")


def test_a_picture_too_large_to_decode_is_refused(tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 4096 pixels: an error in Pillow
    with pytest.raises(UsageError, match="million pixels; shrink it first"):
        read_image(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # only a warning there
    with pytest.raises(UsageError, match="million pixels; shrink it first"):
        read_image(tmp_path / "large.png")


def test_one_place_for_two_outputs_is_refused(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(UsageError, match="--strip and --output are the same file"):
        check_outputs({"--output": tmp_path / "a.png", "--strip": tmp_path / "." / "a.png"}, {})
    with pytest.raises(UsageError, match="are the same file"):
        check_outputs({"--output": tmp_path / "a.png", "--strip": tmp_path / "link.png"}, {})


def test_an_input_is_never_overwritten(picture_file):
    with pytest.raises(UsageError, match="--output and the image are the same file"):
        check_outputs({"--output": picture_file}, {"the image": picture_file})


def test_a_missing_folder_and_a_folder_as_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        check_outputs({"--output": tmp_path / "missing" / "a.png"}, {})
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        check_outputs({"--output": tmp_path}, {})


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(
        "semantic_edit.files.tempfile.TemporaryFile", refuse
    )  # permission bits do not stop root
    with pytest.raises(UsageError, match=r"cannot write into .*: Read-only file system"):
        check_outputs({"--output": tmp_path / "a.png"}, {})


@pytest.mark.parametrize("name", ["a", "a.txt", "a.png.bak", "a.safetensors"])
def test_a_name_that_no_picture_has_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"the name must end in one of \.png"):
        check_suffix("--output", tmp_path / name)


def test_case_of_a_suffix_does_not_matter(tmp_path):
    check_suffix("--output", tmp_path / "A.PNG")


def test_every_suffix_that_passes_gives_the_picture_back_and_every_other_is_refused(tmp_path):
    picture = Image.linear_gradient("L").resize((280, 270)).convert("RGB")  # noise is dear in some formats
    refused = set()
    for suffix in Image.registered_extensions():
        path = tmp_path / f"a{suffix}"
        try:
            check_suffix("--output", path)
        except UsageError:
            refused.add(suffix)
            continue
        for drawn in (picture, picture.convert("L")):
            path.write_bytes(encode_image(drawn, path))
            assert Image.open(path).size == (280, 270), suffix
    assert {".png", ".jpg", ".webp", ".tiff", ".gif", ".bmp"}.isdisjoint(refused)
    # what Pillow lists and cannot write, cannot read again, or makes smaller
    assert {".hdf", ".h5", ".grib", ".bufr", ".wmf", ".msp", ".palm", ".xbm", ".pdf", ".ico"} <= refused


def test_a_format_that_cannot_hold_so_large_a_picture_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"a\.webp: WEBP cannot hold this image .*; use \.png"):
        encode_image(Image.new("RGB", (17_000, 8)), tmp_path / "a.webp")
    with pytest.raises(UsageError, match=r"a\.ico: ICO cannot hold 300 x 200 pixels; use \.png"):
        encode_image(Image.new("RGB", (300, 200)), tmp_path / "a.ico")


def test_a_pipe_a_socket_or_a_name_too_long_is_no_destination(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(
        UsageError, match=r"--output .*pipe\.png is a pipe, a socket or a disk; choose a file"
    ):
        check_outputs({"--output": tmp_path / "pipe.png"}, {})
    with pytest.raises(UsageError, match="File name too long"):
        check_outputs({"--output": tmp_path / ("n" * 300 + ".png")}, {})


def test_a_device_may_take_any_number_of_files(tmp_path):
    (tmp_path / "null.png").symlink_to("/dev/null")
    check_outputs({"--output": tmp_path / "null.png", "--strip": tmp_path / "null.png"}, {})


def test_what_is_no_file_is_no_input(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, reason in (
        (tmp_path / "pipe.png", "is a pipe, and a file is needed"),
        (tmp_path, "is a folder, and a file is needed"),
        (tmp_path / "nowhere.png", r"nowhere\.png cannot be read: No such file"),
        (Path("/dev/null"), "is a device, and a file is needed"),
    ):
        with pytest.raises(UsageError, match=reason):
            check_images({"the picture": path})


def test_a_picture_whose_range_nobody_knows_is_refused_in_words(tmp_path):
    Image.new("F", (8, 8)).save(tmp_path / "floats.tiff")
    with pytest.raises(UsageError, match=r"floats\.tiff has mode F, whose range .* save it in 8 bits"):
        check_images({"--mask": tmp_path / "floats.tiff"})


def test_leftovers_of_a_killed_run_do_not_make_a_folder_somebody_elses(tmp_path, killed_anywhere):
    out = tmp_path / "out"
    left = killed_anywhere(out, lambda: write_folder(out, {"a": b"1", "b": b"2"}))[6]
    assert os.listdir(left)
    check_folder("--output", left, lambda folder: False, "nothing")
    assert os.listdir(left) == []
