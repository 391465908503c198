import contextlib
import os
import stat

import numpy as np
import pytest
from PIL import Image

from semantic_edit.files import UsageError, check_outputs, check_suffix, read_picture, write_all


def test_reads_back_what_was_written(picture_file):
    assert read_picture(picture_file).size == (64, 48)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.png cannot be read: No such file"):
        read_picture(tmp_path / "nowhere.png")


def test_folder_is_no_picture(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_picture(tmp_path)


def test_text_is_no_picture(tmp_path):
    (tmp_path / "notes.png").write_text("not pixels")
    with pytest.raises(UsageError, match="is not a picture in a format"):
        read_picture(tmp_path / "notes.png")


def test_empty_file_is_no_picture(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(UsageError, match="is not a picture in a format"):
        read_picture(tmp_path / "empty.png")


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tiff", ".webp", ".bmp"])
def test_every_cut_of_a_file_is_read_or_refused_plainly(tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in range(0, len(content), max(1, len(content) // 40)):
        cut.write_bytes(content[:length])
        with contextlib.suppress(UsageError):  # anything else is what a person would see as a traceback
            read_picture(cut)


def test_a_picture_too_large_to_decode_is_refused(tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 4096 pixels: an error in Pillow
    with pytest.raises(UsageError, match="million pixels; shrink it first"):
        read_picture(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # only a warning there
    with pytest.raises(UsageError, match="million pixels; shrink it first"):
        read_picture(tmp_path / "large.png")


def test_one_place_for_two_outputs_is_refused(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(UsageError, match="--strip and --output are the same file"):
        check_outputs({"--output": tmp_path / "a.png", "--strip": tmp_path / "." / "a.png"}, {})
    with pytest.raises(UsageError, match="are the same file"):
        check_outputs({"--output": tmp_path / "a.png", "--strip": tmp_path / "link.png"}, {})


def test_an_input_is_never_overwritten(picture_file):
    with pytest.raises(UsageError, match="--output and the picture are the same file"):
        check_outputs({"--output": picture_file}, {"the picture": picture_file})


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
    with pytest.raises(UsageError, match=r"a name is needed that ends in one of \.png"):
        check_suffix("--output", tmp_path / name)


def test_case_of_a_suffix_does_not_matter(tmp_path):
    check_suffix("--output", tmp_path / "A.PNG")


def test_written_files_get_the_usual_permissions(tmp_path):
    write_all({tmp_path / "new.txt": lambda path: path.write_text("new")})
    (tmp_path / "plain.txt").touch()
    assert mode(tmp_path / "new.txt") == mode(tmp_path / "plain.txt")


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    kept = tmp_path / "kept.txt"
    kept.touch()
    kept.chmod(0o640)
    write_all({kept: lambda path: path.write_text("new")})
    assert (kept.read_text(), mode(kept)) == ("new", 0o640)


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_all({tmp_path / "link.txt": lambda path: path.write_text("new")})
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_every_file_as_it_was(tmp_path, error):
    def half(path):
        path.write_text("half")
        raise error("in the middle")

    (tmp_path / "old.txt").write_text("old")
    with pytest.raises(error, match="in the middle"):
        write_all({tmp_path / "old.txt": lambda path: path.write_text("new"), tmp_path / "other.txt": half})
    assert os.listdir(tmp_path) == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)
