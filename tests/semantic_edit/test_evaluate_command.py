"""`semantic-edit evaluate`: what it refuses, and a whole run on the user's own images."""

import json
import os
import shutil

import pytest
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.disk.claims import held_folder
from semantic_edit.still_life import model_path
from semantic_edit.still_life.cases import edit_cases


@pytest.fixture(scope="module")
def blind_folder(tmp_path_factory):
    """The still-life model without its image encoder, like Stable Diffusion."""
    folder = tmp_path_factory.mktemp("blind") / "model"
    shutil.copytree(model_path(), folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"image_encoder": [None, None], "feature_extractor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def brief_folder(tmp_path_factory):
    """The still-life model as if it had been trained on 500 steps of noise."""
    folder = tmp_path_factory.mktemp("brief") / "model"
    shutil.copytree(model_path(), folder)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_train_timesteps": 500}))
    return folder


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
        (["--size", "64x64"], "cannot be used with still lifes"),
        (["--on-bad", "skip"], "--on-bad has no effect with still lifes"),
        (["--data", ".", "--kinds", "colour"], "--kinds is only for still lifes; leave it out with --data ."),
        (["--data", ".", "--split", "test"], "--split is only for still lifes"),
        (["--model", "nowhere"], "--model nowhere: there is no such folder"),
        (["--model", "{without eyes}", "--methods", "stylediffusion"], "this model has none. Give it one"),
        (["--model", "{without eyes}", "--methods", "flexit"], "FlexIT needs a CLIP"),
        (["--steps", "1"], "is less than one step; raise one of the two"),
        (["--steps", "4", "--methods", "sdedit"], "0.2 of --steps 4 is less than one step"),
        (
            ["--model", "{of 500 steps}", "--steps", "501"],
            "--steps must be an integer from 1 to 500, got 501",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    tmp_path, capsys, blind_folder, brief_folder, options, reason
):
    folders = {"{without eyes}": str(blind_folder), "{of 500 steps}": str(brief_folder)}
    options = [folders.get(one, one) for one in options]
    assert main(["evaluate", "--out", str(tmp_path / "out"), "--count", "1", *options]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_bad_rows_end_it_unless_they_may_be_skipped(data, tmp_path, capsys):
    assert main(["evaluate", "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "line 3" in capsys.readouterr().err


def test_a_folder_with_something_else_is_not_written_to(data, capsys):
    assert main(["evaluate", "--out", str(data)]) == 2
    assert "holds something other than results of this command" in capsys.readouterr().err


def test_a_folder_that_another_process_works_in_is_refused_with_who_it_is(tmp_path, only_error):
    command = ["evaluate", "--out", str(tmp_path), "--count", "1", "--methods", "sdedit"]
    with held_folder(tmp_path):
        assert main(command) == 2
        assert f"{str(tmp_path)!r} is in use by process {os.getpid()} on " in only_error()
    assert list(tmp_path.iterdir()) == []


def test_methods_and_metrics_are_listed(capsys):
    assert main(["evaluate", "--list"]) == 0
    printed = capsys.readouterr().out
    for name in ("stylediffusion", "psnr_outside", "judge", "mask_iou", "lpips", "csfid"):
        assert name in printed.split()
    assert main(["evaluate"]) == 2
    assert "choose a folder for the results with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--batch", "0"),
        ("--count", "0"),
        ("--count", "-1"),
        ("--shown", "-1"),
        ("--steps", "1001"),
        ("--points", str(10**30)),
    ],
)
def test_numbers_that_mean_nothing_are_refused(capsys, option, value):
    with pytest.raises(SystemExit):
        main(["evaluate", "--out", "somewhere", option, value])
    assert "a whole number from" in capsys.readouterr().err


def test_by_default_what_the_model_lacks_the_parts_for_is_left_out_and_named(
    blind_folder, tmp_path, capsys, monkeypatch
):
    ran = []
    monkeypatch.setattr(
        "semantic_edit.evaluation.evaluate.evaluate", lambda _, sweeps, *__: ran.extend(sweeps) or ""
    )
    assert (
        main(["evaluate", "--out", str(tmp_path / "out"), "--count", "1", "--model", str(blind_folder)]) == 0
    )
    printed = capsys.readouterr().out
    assert "skipping FlexIT: FlexIT needs a CLIP" in printed
    assert "skipping StyleDiffusion: StyleDiffusion learns" in printed
    assert {"DiffEdit", "SDEdit", "NTI + P2P"} <= {sweep.name for sweep in ran}
    assert not {"FlexIT", "StyleDiffusion"} & {sweep.name for sweep in ran}


def test_the_judge_may_be_named(tmp_path, capsys):
    command = [
        "evaluate",
        "--out",
        str(tmp_path / "out"),
        "--count",
        "1",
        "--kinds",
        "colour",
        "--steps",
        "3",
    ]
    assert main([*command, "--methods", "sdedit", "--points", "1", "--metrics", "judge"]) == 0
    assert "success, judge" in capsys.readouterr().out
