import json
import os
import platform
import subprocess
import sys

import pytest

from semantic_edit.disk import claims
from semantic_edit.disk.claims import HELD, claim, claimed, held_folder


def test_a_folder_is_held_by_one_at_a_time_and_the_other_is_told_by_whom(tmp_path):
    with held_folder(tmp_path):
        with (
            pytest.raises(
                ValueError,
                match=rf"is in use by process {os.getpid()} on .*, since 20.*\. Wait until that ends",
            ),
            held_folder(tmp_path),
        ):
            pass
        assert os.listdir(tmp_path) == [HELD]
    assert os.listdir(tmp_path) == []
    with held_folder(tmp_path):
        pass


def test_a_holder_that_was_killed_holds_no_more(tmp_path):
    code = (
        "import sys, time; from semantic_edit.disk.claims import held_folder\n"
        "with held_folder(sys.argv[1]): print('held', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(ValueError, match=f"in use by process {other.pid} on {platform.node()}"),
            held_folder(tmp_path),
        ):
            pass
    finally:
        other.kill()
        other.wait()
    assert json.loads((tmp_path / HELD).read_text())["process"] == other.pid
    with held_folder(tmp_path):
        assert json.loads((tmp_path / HELD).read_text())["process"] == os.getpid()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"process": "x", "host": 1, "since": 2}'])
def test_a_holder_that_cannot_be_named_is_another_process(tmp_path, text):
    (tmp_path / HELD).write_text(text)
    with claimed(tmp_path / HELD) as is_mine:
        assert is_mine
        with pytest.raises(ValueError, match="is in use by another process"), held_folder(tmp_path):
            pass


def test_one_that_is_removed_while_it_is_waited_for_is_made_again(tmp_path, monkeypatch):
    def removing(handle):
        monkeypatch.undo()
        (tmp_path / HELD).unlink()
        return claim(handle)

    monkeypatch.setattr(claims, "claim", removing)
    with held_folder(tmp_path), claimed(tmp_path / HELD) as is_mine:
        assert not is_mine


def test_where_nothing_can_be_claimed_nothing_is_taken_for_a_leftover_and_everything_goes_on(
    tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(claims, "claim", lambda handle: None)
    with claimed(tmp_path / "file") as is_mine:
        assert not is_mine
    with held_folder(tmp_path):
        pass


def test_a_file_of_somebody_else_is_not_claimed(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(claims.os, "geteuid", lambda: os.getuid() + 1)
    with claimed(tmp_path / "file") as is_mine:
        assert not is_mine
