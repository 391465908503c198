"""Results that were damaged or rewritten, and what is made of all of them."""

from __future__ import annotations

import csv
import json

import pytest

from semantic_edit.batch.ledger import read_ledger
from semantic_edit.batch.merging import merge_results, merged_results

GONE = object()
IN_SHARD = {"image": "0.png", "shard": "shards/00000-000000.tar", "end": 10}


@pytest.fixture
def damage(tmp_path):
    """Writes a batch with one result, some of whose values are changed; returns its folder."""

    def write(**changes):
        line = {
            **{"name": "0", "digest": "d", "where": "line 1", "position": 0, "source": "0.png"},
            **{"source_prompt": "", "prompt": "edit 0", "seed": 1, "options": {}, "warnings": []},
            **{"finished": "2026-01-01T00:00:00Z", "image": "images/0.png", **changes},
        }
        kept = {name: value for name, value in line.items() if value is not GONE}
        (tmp_path / "batch.json").write_text("{}")
        (tmp_path / "results.jsonl").write_text(json.dumps(kept) + "\n")
        return tmp_path

    return write


def test_a_whole_line_is_a_result(damage):
    for changes in ({}, IN_SHARD, {"mask": "masks/0.png"}, {**IN_SHARD, "mask": "0.mask.png"}):
        assert len(read_ledger(damage(**changes)).done) == 1


@pytest.mark.parametrize(
    "changes",
    [
        *({name: GONE} for name in ("name", "digest", "where", "source", "source_prompt", "prompt")),
        *({name: GONE} for name in ("image", "finished", "warnings", "seed", "options", "position")),
        *({name: 5} for name in ("name", "digest", "where", "source", "source_prompt", "prompt")),
        *({name: 5} for name in ("image", "mask", "finished", "warnings", "options")),
        *({"name": name} for name in ("", "..", "a/b", "a.b", "ä", ["a"])),
        *({"image": image} for image in ("../0.png", "/0.png", "images/../0.png", "images/1.png", ["a"])),
        *({"mask": mask} for mask in ("images/0.png", "masks/1.png", None)),
        *({"warnings": told} for told in ([5], {"a": 1}, "abc")),
        *({"position": position} for position in (-1, True, "0", 0.5)),
        *({**IN_SHARD, "shard": shard} for shard in (5, ["a"], None, "../x.tar", "shards/x.tar", "")),
        *({**IN_SHARD, "end": end} for end in (GONE, 0, -1, "9999", True, 1e3)),
        {**IN_SHARD, "image": "images/0.png"},
        {"prompt": "\ud800"},
        {"seed": "x"},
        {"error": "no edit", "name": GONE},
    ],
)
def test_a_line_that_is_no_result_is_named_whatever_is_wrong_with_it(damage, changes):
    out = damage(**changes)
    for read in (read_ledger, merged_results, merge_results):
        with pytest.raises(ValueError, match=r"Line 1 of '.*results.jsonl' is no result of this command"):
            read(out)


def test_a_line_that_is_no_object_is_named(tmp_path):
    (tmp_path / "results-1.jsonl").write_text("[]\n")
    with pytest.raises(ValueError, match=r"Line 1 of .*results-1.jsonl' is no result of this command"):
        read_ledger(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"where": 5}, {"error": 5}, {"error": GONE}, {"finished": GONE}, {"position": "x"}, {"name": 5}],
)
def test_a_line_that_is_no_row_left_out_is_named(damage, changes):
    out, line = damage(), {"where": "line 1", "position": 0, "error": "no", "finished": "2026", **changes}
    kept = {name: value for name, value in line.items() if value is not GONE}
    (out / "left_out-2.jsonl").write_text(json.dumps(kept) + "\n")
    with pytest.raises(ValueError, match=r"Line 1 of '.*left_out-2.jsonl' is no result of this command"):
        merged_results(out)


def test_a_folder_without_a_batch_is_not_merged_into(tmp_path):
    for name in ("index.html", "results.csv", "results.jsonl"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=r"holds no results of a batch: there is no batch.json in it"):
        merge_results(tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_what_the_latest_start_left_out_counts_however_the_table_was_edited(make_table, run_batch, tmp_path):
    def bad_of(*rows, index=0, size=1):
        table = make_table(2)
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run_batch(table, index, size, skips=True)
        return [one["where"] for one in merge_results(tmp_path / "out").bad]

    good, other = ({"image": f"{number}.png", "prompt": f"edit {number}"} for number in (0, 1))
    bad = {"image": "0.png", "prompt": ""}
    assert bad_of(good, bad) == ["line 2"]
    assert bad_of(good, other, bad) == ["line 3"]  # where once there was another
    assert bad_of(bad, good, other) == ["line 1"]
    assert bad_of(good, other) == []
    assert bad_of(bad, good, index=0, size=2) == ["line 1"]
    assert bad_of(good, {**other, "prompt": "a bad one"}, index=1, size=2) == ["line 1", "line 2"]
    assert bad_of(good, other) == []
    assert bad_of({**good, "id": "x"}) == []
    assert bad_of({**good, "id": "x", "prompt": "a bad one"}) == ["line 1"]
    assert "x" not in merged_results(tmp_path / "out").edits
    assert bad_of({**good, "id": "x"}) == []
    assert "x" in merged_results(tmp_path / "out").edits


def test_the_merged_table_is_in_the_order_of_the_data(make_table, run_batch, tmp_path):
    table = make_table(12)
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    lines[3]["prompt"] = [f"edit {letter}" for letter in "zyxwvutsrqpo"]
    lines[5]["prompt"] = ""
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for index in (1, 0):
        run_batch(table, index, 2, skips=True)
    merge_results(tmp_path / "out")
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["where"] for row in rows] == [
        *("line 1", "line 2", "line 3", *["line 4"] * 12, "line 5", "line 6", "line 7", "line 8", "line 9"),
        *("line 10", "line 11", "line 12"),
    ]
    assert [row["prompt"][-1] for row in rows[3:15]] == [*"zyxwvutsrqpo"]
