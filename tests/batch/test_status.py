from __future__ import annotations

import json
import threading

import pytest

from semantic_edit.batch import status
from semantic_edit.batch.status import Watch, spoken_time
from semantic_edit.batch.team import Team


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(status, "BEAT", 0.02)
    monkeypatch.setattr(status, "TOLD_EVERY", 0.05)


def watch(tmp_path, index, token="now", say=lambda line: None, size=2):
    return Watch(tmp_path, Team(index, size, token), say)


def test_the_first_process_tells_how_far_all_are_and_waits_for_them(tmp_path):
    said = []
    first, second = watch(tmp_path, 0, say=said.append), watch(tmp_path, 1)
    go_on = threading.Event()

    def work():
        with second.beating():
            second.own.total, second.own.done, second.own.bad = 10, 4, 1
            go_on.wait()
            second.own.done = 9

    other = threading.Thread(target=work)
    other.start()
    with first.beating():
        first.own.total, first.own.done, first.own.before = 10, 5, 1
        while not any("9 of 20 rows, 1 left out, " in line for line in said):
            pass
    go_on.set()
    everyone = first.wait()
    other.join()
    assert [one.done for one in everyone] == [5, 9]
    assert any("rows a second" in line and "2 of 2 processes" in line for line in said)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_died_is_named_instead_of_waited_for(tmp_path):
    dead = watch(tmp_path, 1)
    dead._write()  # and no more
    first = watch(tmp_path, 0)
    with first.beating():
        pass
    with pytest.raises(
        TimeoutError, match=r"process 1 has given no sign of life .* Start the same command again"
    ):
        first.wait(patience=0.1)


def test_what_an_earlier_start_left_says_nothing(tmp_path):
    with watch(tmp_path, 1, token="before").beating():
        pass
    first = watch(tmp_path, 0)
    assert first.all() == [first.own, None]
    with pytest.raises(TimeoutError, match="process 1"):
        first.wait(patience=0.05)


def test_a_process_that_failed_has_not_finished(tmp_path):
    failed = watch(tmp_path, 1)
    with pytest.raises(ValueError, match="oh"), failed.beating():
        raise ValueError("oh")
    assert not json.loads(failed._path(1).read_text())["finished"]


def test_one_process_alone_writes_no_file_about_itself(tmp_path):
    alone = watch(tmp_path, 0, size=1)
    with alone.beating():
        assert list(tmp_path.iterdir()) == []
    assert alone.wait() == [alone.own]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5 seconds"),
        (119, "119 seconds"),
        (180, "3.0 minutes"),
        (7200, "2.0 hours"),
        (864000, "10.0 days"),
    ],
)
def test_durations_are_told_in_their_own_unit(seconds, text):
    assert spoken_time(seconds) == text
