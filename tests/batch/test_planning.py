from __future__ import annotations

import pytest

from semantic_edit.batch import planning
from semantic_edit.batch.planning import lots_of, sized_rows, windows
from semantic_edit.batch.sources import DataChoice, open_source
from semantic_edit.batch.team import Team
from semantic_edit.datasets.items import RowError


@pytest.fixture
def table(make_table):
    """Five pictures, some with more edits further down, and a line that is no row."""
    more = [{"image": f"{number % 3}.png", "prompt": f"more {number}"} for number in range(7)]
    return make_table(5, "nonsense", *more)


def shared(table, size):
    """Each process's windows."""
    teams = [Team(index, size) for index in range(size)]
    return [[*windows(open_source(DataChoice(str(table)), "diffedit", team), team)] for team in teams]


@pytest.mark.parametrize("window_rows", [3, 1000])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_row_is_one_process_s_own_and_rows_of_a_picture_stay_together(
    table, monkeypatch, size, window_rows
):
    monkeypatch.setattr(planning, "WINDOW_ROWS", window_rows)
    per_process = shared(table, size)
    prompts = sorted(row.prompt for own in per_process for window in own for row in window.rows)
    assert prompts == sorted([*(f"edit {n}" for n in range(5)), *(f"more {n}" for n in range(7))])
    for numbered in zip(*per_process, strict=True):  # all processes see the same windows
        owners = [{row.picture.key for row in window.rows} for window in numbered]
        assert sum(map(len, owners)) == len(set().union(*owners))
    assert [sum(len(window.bad) for window in own) for own in per_process] == [1] + [0] * (size - 1)


def test_work_is_dealt_out_evenly(make_table):
    counts = [sum(len(window.rows) for window in own) for own in shared(make_table(11), 3)]
    assert counts == [4, 4, 3]


def test_a_window_closes_when_it_holds_much(make_table, monkeypatch):
    monkeypatch.setattr(planning, "WINDOW_BYTES", 0)
    (own,) = shared(make_table(3), 1)
    assert [len(window.rows) for window in own] == [1, 1, 1, 0]


def test_rows_of_one_picture_are_a_unit_and_pictures_of_one_size_a_lot(table):
    (window, *_), *_ = shared(table, 1)
    rows, bad = sized_rows(window, table)
    assert [row.where for row in bad] == ["line 6"]
    lots = lots_of(rows, lambda row, size: size, lambda row, size: row.picture.key)
    assert [[len(unit.rows) for unit in lot.units] for lot in lots] == [[4, 3, 3], [1, 1]]
    assert all(len({row.picture.key for row in unit.rows}) == 1 for lot in lots for unit in lot.units)


def test_what_a_check_refuses_is_a_bad_row(table):
    (window, *_), *_ = shared(table, 1)

    def check(row, size):
        assert size == (16, 16)
        if row.prompt == "edit 1":
            raise RowError("refused")

    rows, bad = sized_rows(window, table, check)
    assert len(rows) == 12 - 1
    assert [(row.where, row.reason) for row in bad] == [("line 6", bad[0].reason), ("line 2", "refused")]


def test_a_file_that_is_no_picture_costs_only_its_own_rows(table):
    (table.parent / "1.png").write_text("text")
    (window, *_), *_ = shared(table, 1)
    rows, bad = sized_rows(window, table)
    assert len(rows) == 12 - 3
    assert {row.where for row in bad} == {"line 2", "line 6", "line 8", "line 11"}
    assert "the image '1.png' is not a picture" in str(bad[-1])
