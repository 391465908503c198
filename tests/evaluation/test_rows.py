from __future__ import annotations

import pytest

from semantic_edit.disk import writing
from semantic_edit.evaluation.rows import Rows


def test_rows_are_found_again_by_their_key(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    Rows(path).append({"method": "SDEdit", "taus": (0.5, 1)}, {"psnr": 30.0})
    rows = Rows(path)
    assert {"taus": [0.5, 1], "method": "SDEdit"} in rows
    assert rows[{"method": "SDEdit", "taus": (0.5, 1)}]["psnr"] == 30.0
    assert {"method": "SDEdit", "taus": (0.6, 1)} not in rows


def test_a_half_written_last_line_is_dropped_and_the_next_row_begins_a_line(tmp_path):
    path = tmp_path / "results.jsonl"
    Rows(path).append({"number": 0}, {"psnr": 30.0})
    with path.open("a") as file:
        file.write('{"key": {"number": 1}, "psn')
    rows = Rows(path)
    assert {"number": 1} not in rows
    rows.append({"number": 1}, {"psnr": 31.0})
    assert [Rows(path)[{"number": number}]["psnr"] for number in (0, 1)] == [30.0, 31.0]
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[1]",
        '{"psnr": 3}',
        '{"key": 3}',
        '{"key": {}, "psnr": "thirty"}',
        '{"key": {}, "psnr": [30]}',
        '{"key": {}, "error": 3}',
        pytest.param('{"key": ' + "[" * 100_000, id="deep"),
        pytest.param('{"key": {}, "psnr": ' + "1" * 5000 + "}", id="long"),
        "\ufeff{}",
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "results.jsonl"
    path.write_text(f'{{"key": {{}}}}\n{line}\n{{"key": {{"a": 1}}}}\n')
    with pytest.raises(ValueError, match=r"Line 2 of .*results.jsonl' is no result"):
        Rows(path)


def test_what_failed_is_tried_again_by_the_next_run(tmp_path):
    path = tmp_path / "results.jsonl"
    rows = Rows(path)
    rows.append({"number": 0}, {"error": "damaged"})
    rows.append({"number": 1}, {"error": "damaged"})
    assert rows[{"number": 0}]["error"] == "damaged"  # known to this run
    rows = Rows(path)
    assert {"number": 0} not in rows
    rows.append({"number": 0}, {"psnr": 30.0})
    assert Rows(path)[{"number": 0}]["psnr"] == 30.0
    assert {"number": 1} not in Rows(path)


def test_a_full_disk_loses_no_row_and_is_named(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    rows = Rows(path)
    rows.append({"number": 0}, {"psnr": 30.0})
    before = path.read_bytes()

    def full(file, content):
        file.write(content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_write_all", full)
    with pytest.raises(OSError, match=r"No space left on device: .*results\.jsonl"):
        rows.append({"number": 1}, {"psnr": 31.0})
    assert path.read_bytes() == before
    assert {"number": 1} not in rows


def test_infinite_values_survive(tmp_path):
    Rows(tmp_path / "rows").append({}, {"psnr": float("inf")})
    assert Rows(tmp_path / "rows")[{}]["psnr"] == float("inf")
