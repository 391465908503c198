import errno
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semantic_edit.disk import writing
from semantic_edit.disk.claims import OURS, claimed
from semantic_edit.disk.writing import entries, settle, write_file, write_files, write_folder

OLD = {"a.png": b"old a", "b.png": b"old b", "c.txt": b"old c"}
NEW = {"a.png": b"new a", "b.png": b"new b", "c.txt": b"new c"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def fill(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def write_into(folder, files):
    write_files({folder / name: content for name, content in files.items()})


def test_what_is_written_is_there_and_nothing_else(folder):
    write_into(folder, NEW)
    assert contents(folder) == NEW
    write_file(folder / "a.png", b"")
    assert contents(folder) == {**NEW, "a.png": b""}


def test_a_folder_is_made_with_those_inside_and_keeps_what_it_held(tmp_path):
    fill(tmp_path / "model", {"notes.txt": b"mine"})
    files = {"config.json": b"{}", "unet/config.json": b"1", "unet/deep/weights": b"2"}
    write_folder(tmp_path / "model", files)
    assert contents(tmp_path / "model") == {"notes.txt": b"mine", **files}


@pytest.mark.parametrize("old", [OLD, {}])
def test_killed_anywhere_all_files_are_the_old_ones_or_all_the_new_ones(folder, killed_anywhere, old):
    fill(folder, old)
    moments = killed_anywhere(folder, lambda: write_into(folder, NEW))
    assert len(moments) > 10
    seen = set()
    for left in moments:
        assert {path.name for path in entries(left)} <= NEW.keys()  # what is unfinished does not count
        settle(left)
        assert contents(left) in (old, NEW), left
        seen.add(contents(left) == NEW)
        write_into(left, NEW)
        assert contents(left) == NEW
    assert seen == {True, False}


def test_killed_anywhere_a_folder_is_whole_or_as_it_was(tmp_path, killed_anywhere):
    files = {"config.json": b"{}", "unet/config.json": b"1"}
    moments = killed_anywhere(tmp_path / "new", lambda: write_folder(tmp_path / "new", files))
    assert len(moments) > 10
    for left in moments:
        settle(left)
        assert not left.exists() or contents(left) in ({}, files), left
        write_folder(left, files)
        assert contents(left) == files


def test_killed_while_settling_the_next_settles_it(folder, killed_anywhere):
    fill(folder, OLD)
    moments = killed_anywhere(folder, lambda: write_into(folder, NEW))
    agreed = next(left for left in moments if any(left.glob(f"*{writing.MOVES}")))
    moments = killed_anywhere(agreed, lambda: settle(agreed))
    assert len(moments) > 3
    for left in moments:
        settle(left)
        assert contents(left) == NEW, left


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_interrupted_anywhere_nothing_is_left_behind(folder, monkeypatch, error, moved):
    fill(folder, OLD)
    replace, done = os.replace, []

    def interrupted(source, target):
        if len(done) == moved:
            done.append(target)
            raise error
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(writing.os, "replace", interrupted)
    with pytest.raises(error):
        write_into(folder, NEW)
    assert contents(folder) == (
        OLD if moved == 0 else NEW
    )  # the first move is that of the list, which decides


def test_a_full_disk_changes_nothing_and_the_error_names_the_file(tmp_path, monkeypatch):
    fill(tmp_path, OLD)

    def full(file, content):
        if content == NEW["b.png"]:
            file.write(content[:2])
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(content)

    monkeypatch.setattr(writing, "_write_all", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*b\.png'") as caught:
        write_into(tmp_path, NEW)
    assert caught.value.filename == str(tmp_path / "b.png")
    assert contents(tmp_path) == OLD


def test_a_disk_that_silently_keeps_a_part_is_noticed(tmp_path, monkeypatch):
    fill(tmp_path, OLD)
    monkeypatch.setattr(writing, "_write_all", lambda file, content: file.write(content[:2]))
    with pytest.raises(OSError, match=r"The disk kept only part of the file: '.*a\.png'"):
        write_into(tmp_path, NEW)
    assert contents(tmp_path) == OLD


def test_folders_that_were_made_for_nothing_are_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_write_all", lambda file, content: file.write(content[:0]))
    with pytest.raises(OSError, match="only part of the file"):
        write_folder(tmp_path / "a" / "b", {"c/d.txt": b"new"})
    assert os.listdir(tmp_path) == []


def test_written_files_get_the_usual_permissions_and_replaced_ones_keep_theirs(folder):
    (folder / "plain").touch()
    fill(folder, OLD)
    (folder / "b.png").chmod(0o640)
    write_into(folder, {**NEW, "new": b""})
    assert mode(folder / "new") == mode(folder / "a.png") == mode(folder / "plain")
    assert mode(folder / "b.png") == 0o640


def test_a_link_stays_and_its_target_is_replaced(tmp_path, folder):
    (folder / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(folder / "real.txt")
    (tmp_path / "dangling.txt").symlink_to(folder / "later.txt")
    write_files({tmp_path / "link.txt": b"new", tmp_path / "dangling.txt": b"made"})
    assert (tmp_path / "link.txt").is_symlink()
    assert contents(folder) == {"real.txt": b"new", "later.txt": b"made"}


def test_a_device_is_written_to_and_stays_one(tmp_path):
    (tmp_path / "null.png").symlink_to("/dev/null")
    write_files({Path("/dev/null"): b"gone", tmp_path / "null.png": b"gone too", tmp_path / "a.png": b"kept"})
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "null.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
def test_a_full_device_is_named():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_file("/dev/full", b"much")


def test_a_folder_or_a_pipe_in_the_way_is_refused_before_anything_is_replaced(folder):
    fill(folder, OLD)
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    for name in ("sub", "pipe"):
        with pytest.raises(OSError, match=f"Is something other than a file: '.*{name}'"):
            write_into(folder, {**NEW, name: b"new"})
    assert contents(folder) == OLD


def test_a_missing_folder_is_not_made_for_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing/a\.png"):
        write_file(tmp_path / "missing" / "a.png", b"new")


def test_any_name_that_a_file_can_have_can_be_written(folder):
    names = ["n" * 255, "new\nline", "\udcff", ".hidden", "-o", "é"]
    write_into(folder, dict.fromkeys(names, b"content"))
    assert sorted(os.listdir(folder)) == sorted(names)


def test_what_a_living_process_writes_is_left_alone(folder):
    code = (
        "import sys, time; from semantic_edit.disk import writing\n"
        "def slowly(file, content):\n"
        "    print('writing', flush=True); time.sleep(60)\n"
        "writing._write_all = slowly\n"
        "writing.write_file(sys.argv[1], b'theirs')\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "a.png")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "writing\n"
        (beside,) = os.listdir(folder)
        settle(folder)
        write_file(folder / "b.png", b"ours")
        assert sorted(os.listdir(folder)) == [beside, "b.png"]
    finally:
        other.kill()
        other.wait()
    settle(folder)
    assert os.listdir(folder) == ["b.png"]


def test_a_list_that_another_process_works_off_is_left_to_it(folder):
    token = "0" * 32
    (folder / f"{OURS}{token}-0{writing.UNFINISHED}").write_bytes(b"new")
    moves = folder / f"{OURS}{token}{writing.MOVES}"
    moves.write_text(json.dumps({f"{OURS}{token}-0{writing.UNFINISHED}": "a.png"}))
    with claimed(moves) as is_mine:
        assert is_mine
        settle(folder)
        assert len(os.listdir(folder)) == 2
    settle(folder)
    assert contents(folder) == {"a.png": b"new"}


@pytest.mark.parametrize(
    "to", ["../outside.txt", "/tmp/outside-of-everything.txt", "link/outside.txt", "", ".", 3, None]
)
def test_a_list_that_leads_out_of_its_folder_is_not_followed(tmp_path, folder, to):
    token = "0" * 32
    (folder / "link").symlink_to(tmp_path)
    beside = f"{OURS}{token}-0{writing.UNFINISHED}"
    (folder / beside).write_bytes(b"new")
    (folder / f"{OURS}{token}{writing.MOVES}").write_text(json.dumps({beside: to}))
    settle(folder)
    assert sorted(os.listdir(tmp_path)) == ["out"]
    assert (folder / beside).read_bytes() == b"new"


@pytest.mark.parametrize("beside", ["mine.txt", "../mine.txt", f"{OURS}1-0{writing.UNFINISHED}"])
def test_a_list_that_takes_what_is_not_ours_is_not_followed(folder, beside):
    token = "0" * 32
    fill(folder, {"mine.txt": b"mine", "other.txt": b"other"})
    (folder / f"{OURS}{token}{writing.MOVES}").write_text(json.dumps({beside: "other.txt"}))
    settle(folder)
    assert (folder / "mine.txt").read_bytes() == b"mine"
    assert (folder / "other.txt").read_bytes() == b"other"


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\xff"])
def test_a_list_that_is_none_does_no_harm(folder, text):
    (folder / f"{OURS}{'0' * 32}{writing.MOVES}").write_text(text, encoding="latin-1")
    write_into(folder, NEW)
    assert NEW.items() <= contents(folder).items()


def test_settling_where_nothing_is_or_may_be_changed_is_no_error(tmp_path):
    settle(tmp_path / "missing")
    (tmp_path / "file").touch()
    settle(tmp_path / "file")


def test_writers_at_once_lose_nothing_and_leave_nothing_behind(folder):
    code = (
        "import sys; from pathlib import Path; from semantic_edit.disk.writing import write_files\n"
        "own = sys.argv[2].encode(); folder = Path(sys.argv[1])\n"
        "for _ in range(40): write_files({folder / name: own for name in ('a', 'b', 'c' + sys.argv[2])})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(folder), name]) for name in ("1", "2", "3")]
    while any(writer.poll() is None for writer in writers):
        settle(folder)
        time.sleep(0.01)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    left = contents(folder)
    assert {left.pop("a"), left.pop("b")} <= {b"1", b"2", b"3"}
    assert left == {"c1": b"1", "c2": b"2", "c3": b"3"}
