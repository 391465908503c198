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
    assert run(*QUICK, "--dry-run") == 2
    assert (
        "error: 1 row cannot be used, and without --on-bad skip a run would do nothing"
        in capsys.readouterr().err
    )
    assert run(*QUICK, "--dry-run", "--on-bad", "skip") == 3
    printed = capsys.readouterr()
    assert "rows: 2, and 1 that cannot be used" in printed.out
    assert "expected: " in printed.out
    assert not (tmp_path / "out").exists()
    assert run(*QUICK, "--on-bad", "skip", "--masks") == 3
    printed = capsys.readouterr()
    assert "warning: left out" in printed.err
    assert "edits.jsonl, line 3: there is no file 'gone.png'" in printed.err
    assert "rows done: 2, of them new: 2, left out: 1" in printed.out
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2
    assert run(*QUICK, "--on-bad", "skip", "--masks") == 3
    assert "rows done: 2, of them new: 0, left out: 1" in capsys.readouterr().out
    assert main(["batch", "--out", str(tmp_path / "out"), "--merge"]) == 0
    assert "edits: 2, rows left out: 1" in capsys.readouterr().out
    assert run(*QUICK, "--on-bad", "skip") == 2
    assert "was started otherwise (masks: that one True, this call False)" in capsys.readouterr().err
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]


def test_bad_rows_end_it_before_any_work_with_line_and_reason(run, tmp_path, only_error):
    assert run() == 2
    error = only_error()
    assert "The data has a row that cannot be used: " in error
    assert "edits.jsonl, line 3: there is no file 'gone.png'" in error
    assert "Put it right, or leave it out with --on-bad skip" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--out", "{out}"], "name the rows with --data, or, to only merge what is in --out, pass --merge"),
        (["--out", "{out}", "--merge"], "there is no such folder to merge"),
        (["--out", "{here}", "--merge"], "holds no results of a batch: there is no batch.json in it"),
        (["--data", "", "--out", "{out}"], "--data is empty; name a table, a folder or a dataset"),
        (
            ["--data", "x", "--out", "{out}", "--columns", "prompt=a", "prompt=b"],
            "--columns names prompt twice",
        ),
        (
            ["--data", "{here}/edits.jsonl", "--out", "{out}", "--columns", "promt=prompt"],
            "--columns promt=prompt: a row has no 'promt'; did you mean prompt?",
        ),
        (["--data", "{here}/gone.jsonl", "--out", "{out}"], "There is no file or folder '"),
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
    before = sorted(tmp_path.iterdir())
    for place, path in places.items():
        words = [word.replace(place, path) for word in words]
    assert main(["batch", *words]) == 2
    assert reason in only_error()
    assert sorted(tmp_path.iterdir()) == before


def written(table, *rows):
    """The table's first row in several versions."""
    first = json.loads(table.read_text().splitlines()[0])
    table.write_text("".join(json.dumps({**first, **row}) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"height": 64}, "line 2: Pass both height and width, or neither, got 64 and None. Put it right"),
        ({"num_inference_steps": 1}, "line 2: inpaint_strength 0.8 of num_inference_steps 1 is less than"),
        ({"prompt": ""}, "line 2: prompt is empty. Put it right"),
        ({"prompt": "a", "num_maps_per_mask": 0}, "line 2: num_maps_per_mask must be an integer"),
    ],
)
def test_a_row_s_fault_is_told_by_its_keys_before_any_work(run, table, tmp_path, only_error, row, reason):
    written(table, {}, row)
    assert run(*QUICK) == 2
    assert reason in only_error()
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_an_option_is_told_by_the_option(run, table, tmp_path, only_error):
    written(table, {})
    assert run("--steps", "1", "--maps", "1", "--on-bad", "skip") == 2
    assert "--strength 0.8 of --steps 1 is less than one step" in only_error()
    assert not (tmp_path / "out").exists()


def test_a_row_that_would_be_refused_is_left_out_on_request(run, table, capsys):
    written(table, {}, {"height": 64, "id": "tall"})
    assert run(*QUICK, "--on-bad", "skip") == 3
    assert "left out " in (told := capsys.readouterr().err)
    assert "line 2: Pass both height and width, or neither, got 64 and None\n" in told


def test_keys_that_nothing_reads_are_told_once_each(run, table, capsys):
    unread = {"steps": 3, "tau_v": 0.5, "num_inferense_steps": 4, "source_promt": "x", "zzz": 1}
    written(table, {"id": "a", "zzz": 1}, {"id": "b", **unread})
    assert run(*QUICK) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "ignored" in line]
    assert [line.partition("the key ")[2] for line in told] == [
        "'zzz' of 2 rows is ignored",
        "'steps' of 1 row is ignored; did you mean num_inference_steps?",
        "'tau_v' of 1 row is ignored; it is for --method restyle",
        "'num_inferense_steps' of 1 row is ignored; did you mean num_inference_steps?",
        "'source_promt' of 1 row is ignored; did you mean source_prompt?",
    ]


def test_the_page_shows_pictures_before_and_after_and_masks_with_what_made_them(run, table, tmp_path):
    written(table, {"id": "a"}, {"id": "b", "source_prompt": ""})
    assert run(*QUICK, "--masks", "--merge") == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert [page.count(f'alt="{caption}"') for caption in ("before", "after", "mask")] == [2, 2, 2]
    first, second = page.split("<article>")[1:]
    assert first.index('alt="before"') < first.index('alt="after"') < first.index('alt="mask"')
    assert " → <b>" in first
    assert "→" not in second  # it says no more than what the edit should show
    assert "<title>out: 2 edits</title>" in page
    assert "method diffedit, model still-life, precision float32, seed 0, num_inference_steps 3" in page
    assert main(["batch", "--out", str(tmp_path / "out"), "--merge"]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert [page.count(f'alt="{caption}"') for caption in ("before", "after", "mask")] == [0, 2, 2]


def test_columns_are_pairs(capsys):
    with pytest.raises(SystemExit):
        main(["batch", "--out", "x", "--data", "y", "--columns", "prompt"])
    assert "a column has the form NAME=COLUMN, got 'prompt'" in capsys.readouterr().err


def test_a_folder_that_another_start_works_in_is_refused_with_who_it_is(run, tmp_path, only_error):
    (tmp_path / "out").mkdir()
    with held_folder(tmp_path / "out"):
        assert run("--on-bad", "skip") == 2
        assert f"is in use by process {os.getpid()} on " in only_error()
