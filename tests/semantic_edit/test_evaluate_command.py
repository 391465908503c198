"""`semantic-edit evaluate`: what it refuses, and a whole run on pictures of one's own."""

import json

import pytest
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.still_life.cases import edit_cases


@pytest.fixture
def data(tmp_path):
    """Two pictures in the layout of a folder with prompts, and a row that cannot be used."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number, case in enumerate(edit_cases(2, seed=3, kinds=("colour",), objects=1)):
        case.image.save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "source_prompt": case.source_prompt, "prompt": case.prompt})
    rows.append({"image": "missing.png", "source_prompt": "a red apple", "prompt": "a green apple"})
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_folder_of_pictures_gives_a_report_and_goes_on(data, tmp_path, capsys):
    command = [
        "evaluate",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--methods",
        "sdedit",
        "diffedit",
    ]
    command += ["--points", "1", "--steps", "3", "--on-bad", "skip"]
    command += ["--metrics", "clip", "psnr_to_input", "vision_fid"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "missing.png" in printed.err
    assert "| SDEdit | strength **0.5** |" in printed.out
    rows = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len(rows) == 2 * 2 + 2 * 2  # an edit and a reconstruction of each picture by each method
    assert json.loads(rows[0])["key"]["settings"]["num_inference_steps"] == 3
    assert "| SDEdit | strength **0.5** |" in printed.out.partition("Sets of pictures")[2]
    assert {"report.md", "edits.csv", "sets.csv", "sdedit.png", "diffedit.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert Image.open(tmp_path / "out" / "sdedit.png").width > 3 * 128
    assert main(command) == 0
    assert (tmp_path / "out" / "results.jsonl").read_text().splitlines() == rows


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--methods", "photoshop"], "--methods photoshop: choose from sdedit"),
        (["--metrics", "beauty"], "There is no metric beauty"),
        (["--metrics", "lpips"], "LPIPS needs"),
        (["--data", "nowhere"], "is neither 'still-life' nor a folder"),
        (["--size", "64x64"], "still lifes have one size"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path, capsys, options, reason):
    assert main(["evaluate", "--out", str(tmp_path / "out"), "--count", "1", *options]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_bad_rows_end_it_unless_they_may_be_skipped(data, tmp_path, capsys):
    assert main(["evaluate", "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "line 3" in capsys.readouterr().err


def test_a_folder_with_something_else_is_not_written_to(data, capsys):
    assert main(["evaluate", "--out", str(data)]) == 2
    assert "holds something other than results of this command" in capsys.readouterr().err


def test_methods_and_metrics_are_listed(tmp_path, capsys):
    assert main(["evaluate", "--out", str(tmp_path), "--list"]) == 0
    printed = capsys.readouterr().out
    assert "stylediffusion" in printed
    assert "psnr_outside" in printed
