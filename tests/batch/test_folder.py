"""What a batch's folder was started with, who works in it, and its shards when others fill or damaged them."""

from __future__ import annotations

import os
import tarfile

import pytest

from semantic_edit.batch import folder as folders
from semantic_edit.batch.folder import check_settings, open_store, working_in
from semantic_edit.batch.ledger import read_ledger
from semantic_edit.batch.merging import merged_results
from semantic_edit.batch.stores import mend_shards, quiet_shards
from semantic_edit.batch.team import Team
from tests.batch.conftest import Negatives

SETTINGS = {"model": "a", "options": {"preset": "paper"}, "seed": 0}


def test_a_folder_goes_on_only_as_it_was_started(tmp_path):
    for _ in range(2):  # all processes of a start say the same
        check_settings(tmp_path, SETTINGS, None, 5)
    with pytest.raises(ValueError, match=r"was started otherwise \(seed: that one 0, this call 1\)"):
        check_settings(tmp_path, {**SETTINGS, "seed": 1}, None, 5)


@pytest.mark.parametrize(("rows", "are_many"), [(folders.FEW, False), (folders.FEW + 1, True), (None, True)])
def test_where_pictures_go_is_decided_once_by_the_rows_or_by_who_starts(tmp_path, rows, are_many):
    assert check_settings(tmp_path, SETTINGS, None, rows) is are_many
    for later in (1, folders.FEW + 1, None):  # the table may grow, or shrink
        assert check_settings(tmp_path, SETTINGS, None, later) is are_many
    assert check_settings(tmp_path, SETTINGS, are_many, 1) is are_many
    with pytest.raises(ValueError, match=f"shards: that one {are_many}, this call {not are_many}"):
        check_settings(tmp_path, SETTINGS, not are_many, rows)


@pytest.mark.parametrize("shards", [False, True])
def test_who_starts_a_folder_chooses_where_pictures_go(tmp_path, shards):
    assert check_settings(tmp_path, SETTINGS, shards, None if not shards else 1) is shards
    assert check_settings(tmp_path, SETTINGS, None, None if not shards else 1) is shards


@pytest.mark.parametrize("name", ["results.jsonl", "results-3.jsonl"])
def test_results_that_nobody_knows_the_settings_of_are_not_continued(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"holds results, but no batch.json .* Put it back, or name another"):
        check_settings(tmp_path, SETTINGS, None, 5)
    assert os.listdir(tmp_path) == [name]


def test_any_process_may_come_first_and_the_others_go_on(make_table, run_batch, results_of):
    table = make_table(5)
    for index in (2, 0, 1):
        run_batch(table, index, 3)
    assert len(results_of()) == 5


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (1, 2)])
def test_a_survivor_of_a_larger_team_is_noticed_and_named(tmp_path, index, size):
    with (
        working_in(tmp_path, Team(2, 3)),
        pytest.raises(ValueError, match=rf"is in use by process {os.getpid()} on "),
        working_in(tmp_path, Team(index, size)),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_one_team_works_together_and_removes_what_a_larger_dead_one_left(tmp_path):
    for index in (1, 2, 11):
        (tmp_path / f".semantic-edit-held-{index}.json").write_text('{"process": 1}')
    with working_in(tmp_path, Team(0, 2)), working_in(tmp_path, Team(1, 2)):
        pass
    assert os.listdir(tmp_path) == []


def test_a_link_to_a_folder_that_is_still_to_be_made_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("place")
    with working_in(tmp_path / "link", Team()):
        (tmp_path / "link" / "file").touch()
    assert os.listdir(tmp_path / "place") == ["file"]


def test_what_a_dead_process_left_in_a_shard_is_cut_off(make_table, run_batch, tmp_path):
    out = tmp_path / "out"
    run_batch(make_table(3), sharded=True)
    (shard,) = (out / "shards").iterdir()
    closed = shard.read_bytes()
    end = max(read_ledger(out).ends.values())
    for left in (b"", b"half of a picture", bytes(5) + b"x" * 20_000):
        shard.write_bytes(closed[:end] + left)
        (out / "shards" / "00009-000000.tar").write_bytes(left)
        open_store(out, Team(), sharded=True)
        assert shard.read_bytes() == closed
        assert [one.name for one in (out / "shards").iterdir()] == [shard.name]


def test_files_that_are_no_shards_of_ours_stay(make_table, run_batch, tmp_path):
    names = {"mine.tar", "00000-000000.tar.idx", "00000-index.json", "1.tar"}
    (tmp_path / "out" / "shards").mkdir(parents=True)
    for name in names:
        (tmp_path / "out" / "shards" / name).touch()
    run_batch(make_table(1), sharded=True)
    assert {one.name for one in (tmp_path / "out" / "shards").iterdir()} == {*names, "00000-000000.tar"}


def test_a_shard_that_a_process_is_filling_is_left_alone(tmp_path):
    _, store = open_store(tmp_path, Team(), sharded=True)
    store._shard = store._new_shard()
    mend_shards(quiet_shards(tmp_path), read_ledger(tmp_path))
    assert (tmp_path / store._shard.name).exists()
    store.close()


def test_a_shard_that_another_process_closes_meanwhile_stays_whole(
    make_table, run_batch, results_of, monkeypatch
):
    table = make_table(6)

    def slow(folder):
        monkeypatch.undo()
        ledger = read_ledger(folder)
        run_batch(table, 1, 2, sharded=True)
        return ledger

    monkeypatch.setattr(folders, "read_ledger", slow)
    run_batch(table, 0, 2, sharded=True)
    editor = Negatives()
    assert run_batch(table, sharded=True, editor=editor).before == 6
    assert editor.calls == []


def test_a_full_shard_is_given_up_only_after_its_results_are_written(make_table, run_batch, monkeypatch):
    monkeypatch.setattr("semantic_edit.batch.stores.SHARD_ROWS", 1)
    table, append = make_table(3), folders.ResultsFile.append

    def slow(self, results):
        if results:
            open_store(self.path.parent, Team(), sharded=True)  # by a first process that comes late
        append(self, results)

    monkeypatch.setattr(folders.ResultsFile, "append", slow)
    run_batch(table, 1, 2, sharded=True, editor=Negatives(most=1))
    monkeypatch.undo()
    assert run_batch(table, 1, 2, sharded=True).before == 1


def test_rows_of_a_shard_that_lost_its_end_are_done_again(make_table, run_batch, tmp_path):
    table, out = make_table(5), tmp_path / "out"
    run_batch(table, sharded=True)
    (shard,) = (out / "shards").iterdir()
    os.truncate(shard, 3000)
    assert run_batch(table, sharded=True).before == 0
    assert shard.stat().st_size == 3000
    edits = merged_results(out).edits.values()
    with tarfile.open(out / "shards" / "00000-000001.tar") as whole:
        assert {one["image"] for one in edits} <= {*whole.getnames()}
    assert {one["shard"] for one in edits} == {"shards/00000-000001.tar"}
    assert run_batch(table, sharded=True).before == 5
