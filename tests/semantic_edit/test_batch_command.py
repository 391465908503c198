"""`semantic-edit batch`: what it refuses, and a whole run with its exit codes."""

import json
import os

import pytest

from semantic_edit import batch_command
from semantic_edit.cli import main
from semantic_edit.disk.claims import held_folder
from semantic_edit.still_life.cases import edit_cases


@pytest.fixture
def table(tmp_path):
    """Two edits, and a row without its picture."""
    rows = []
    for number, case in enumerate(edit_cases(2, seed=3, kinds=("colour",), objects=1)):
        case.image.save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "source_prompt": case.source_prompt, "prompt": case.prompt})
    rows.append({"image": "gone.png", "prompt": "a green apple"})
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "edits.jsonl"


@pytest.fixture
def run(table, tmp_path, monkeypatch, load_once):
    monkeypatch.setattr(batch_command, "load_pipeline", load_once)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    return lambda *words: main(["batch", "--data", str(table), "--out", str(tmp_path / "out"), *words])


QUICK = ("--steps", "3", "--maps", "1")


def test_a_batch_is_rehearsed_run_merged_and_continued(run, tmp_path, capsys):
    assert run(*QUICK, "--dry-run") == 3
    printed = capsys.readouterr()
    assert "rows: 2, and 1 that cannot be used" in printed.out
    assert "expected: " in printed.out
    assert not (tmp_path / "out").exists()
    assert run(*QUICK, "--on-bad", "skip", "--masks") == 3
    printed = capsys.readouterr()
    assert "warning: left out" in printed.err
    assert "edits.jsonl, line 3: there is no file 'gone.png'" in printed.err
    assert "2 rows are whole, 2 of them new; 1 were left out" in printed.out
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2
    assert run(*QUICK, "--on-bad", "skip", "--masks") == 3
    assert "2 rows are whole, 0 of them new" in capsys.readouterr().out
    assert main(["batch", "--out", str(tmp_path / "out"), "--merge"]) == 0
    assert "2 edits, 1 rows left out" in capsys.readouterr().out
    assert run(*QUICK, "--on-bad", "skip") == 2
    assert "was started otherwise (masks: that one True, this call False)" in capsys.readouterr().err
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]


def test_bad_rows_end_it_before_any_work_with_line_and_reason(run, tmp_path, only_error):
    assert run() == 2
    error = only_error()
    assert "The data has a row that cannot be used: " in error
    assert "edits.jsonl, line 3: there is no file 'gone.png'" in error
    assert "leave them out with --on-bad skip" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--out", "{out}"], "name the rows with --data, or, to only merge what is in --out, pass --merge"),
        (["--out", "{out}", "--merge"], "there is no such folder to merge"),
        (["--out", "{here}", "--merge"], "holds no results of a batch: there is no batch.json in it"),
        (["--data", "x", "--out", "{out}", "--dry-run", "--merge"], "--merge has no effect with --dry-run"),
        (["--data", "x", "--out", "{out}", "--tau-v", "0.1"], "--tau-v has no effect with --method diffedit"),
        (
            ["--data", "x", "--out", "{out}", "--schedule", "short"],
            "--schedule has no effect with --method diffedit",
        ),
        (
            ["--data", "x", "--out", "{out}", "--method", "restyle", "--masks"],
            "--masks has no effect with --method",
        ),
        (
            ["--data", "x", "--out", "{out}", "--method", "restyle", "--maps", "3"],
            "--maps has no effect with",
        ),
        (
            ["--data", "x", "--out", "{out}", "--images", "nowhere"],
            "--images nowhere: there is no such folder",
        ),
        (["--data", "x", "--out", "{here}"], "holds something other than results of this command"),
        (["--data", "nowhere", "--out", "{out}"], "The data 'nowhere' is neither a file nor a folder"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(table, tmp_path, only_error, words, reason):
    places = {"{out}": str(tmp_path / "out"), "{here}": str(tmp_path)}
    assert main(["batch", *(places.get(word, word) for word in words)]) == 2
    assert reason in only_error()
    assert not (tmp_path / "out").exists()


def test_columns_are_pairs(capsys):
    with pytest.raises(SystemExit):
        main(["batch", "--out", "x", "--data", "y", "--columns", "prompt"])
    assert "a column has the form NAME=COLUMN, got 'prompt'" in capsys.readouterr().err


def test_a_folder_that_another_start_works_in_is_refused_with_who_it_is(run, tmp_path, only_error):
    (tmp_path / "out").mkdir()
    with held_folder(tmp_path / "out"):
        assert run("--on-bad", "skip") == 2
        assert f"is in use by process {os.getpid()} on " in only_error()
