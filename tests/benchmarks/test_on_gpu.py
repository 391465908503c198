"""The script for a GPU also runs on a CPU with tiny models, so that it keeps working until a GPU is available."""

from __future__ import annotations

import json
import math
import subprocess
import time
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.on_gpu import __main__ as on_gpu
from benchmarks.on_gpu.__main__ import SECTIONS, main, run_section
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.document import write_into
from benchmarks.on_gpu.report import Figure, Report, figure
from benchmarks.on_gpu.training import training

FOLDER = Path(on_gpu.__file__).parent
ONLY_ON_GPUS = ("waits", "compiling")


@pytest.fixture
def report(tmp_path):
    return Report(tmp_path / "out", {"card": "none"})


@pytest.fixture
def bench(make_style_pipe):
    """A model whose image tokens are as wide as the text's, as the published loop needs."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=16,
        patch_size=8,
    )
    pipe = make_style_pipe(image_encoder=CLIPVisionModelWithProjection(config).eval())
    return Bench(torch.device("cpu"), quick=True, given=pipe)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("families", "learning", "restyling") else name
        for name in SECTIONS
        if name not in ONLY_ON_GPUS
    ],
)
def test_a_section_measures(bench, report, name):
    section, _ = SECTIONS[name]
    run_section(report, name, lambda: section(bench), 60)
    assert not report.failures
    assert report.figures
    # no more can be said of differences of timings as short as these
    assert all(one.section == name and math.isfinite(one.value) for one in report.figures)


@pytest.mark.parametrize("name", ONLY_ON_GPUS)
def test_what_only_a_gpu_can_tell_is_left_out(bench, name):
    assert list(SECTIONS[name][0](bench)) == []


def test_the_command_writes_what_it_finds(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--quick", "--device", "cpu", "--sections"]
    main([*arguments, "swaps"])
    main([*arguments, "waits", "--resume"])
    stored = json.loads((tmp_path / "gpu.json").read_text())
    assert stored["machine"]["torch"] == torch.__version__
    assert list(stored["seconds"]) == ["swaps", "waits"]
    table = (tmp_path / "gpu.md").read_text()
    assert table == Report.read(tmp_path / "gpu.json").table
    assert capsys.readouterr().out.rstrip().endswith(table.rstrip())
    assert table.count("| swaps | ") == len(stored["figures"]) > 4


def test_the_tests_are_summed_up(tmp_path):
    log = tmp_path / "tests.log"
    log.write_text(
        "......F\nE   boom\nFAILED tests/gpu/test_waits.py::test_it - boom\n=== 1 failed, 6 passed in 3s ===\n"
    )
    main(["--out", str(tmp_path), "--quick", "--device", "cpu", "--tests", str(log), "--sections"])
    table = (tmp_path / "gpu.md").read_text()
    assert "Tests: 1 failed, 6 passed in 3s." in table
    assert "- FAILED tests/gpu/test_waits.py::test_it" in table
    assert "boom" in json.loads((tmp_path / "gpu.json").read_text())["tests"][1]


def test_a_section_that_fails_keeps_what_it_found_and_lets_others_run(report, capsys):
    def found():
        yield Figure("first", 1.0)
        raise KeyError("boom")

    run_section(report, "failing", found, 60)
    run_section(report, "next", lambda: iter([Figure("second", 2.0)]), 60)
    assert [one.what for one in report.figures] == ["first", "second"]
    assert "KeyError: 'boom'" in report.failures["failing"]
    assert "KeyError: 'boom'" in capsys.readouterr().out
    assert "| failing | KeyError: 'boom' |" in (report.folder / "gpu.md").read_text()


def test_a_section_ends_when_its_time_is_over(report):
    def found():
        yield Figure("first", 1.0)
        time.sleep(60)

    run_section(report, "endless", found, 1.0)
    assert "stopped after its 1 seconds" in report.failures["endless"]
    assert report.seconds["endless"] < 30
    run_section(report, "late", found, 0.5)
    assert "no time was left for it" in report.failures["late"]


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        ({"at_most": 0.6}, 0.5, "| 0.5 s (0.4 to 0.6) | at most 0.6 | met |"),
        ({"at_least": 0.6}, 0.5, "| 0.5 s (0.4 to 0.6) | at least 0.6 | **missed** |"),
        ({}, 0.5, "| 0.5 s (0.4 to 0.6) |"),
    ],
)
def test_goals(goal, value, verdict):
    made = figure("what", [value - 0.1, value, value + 0.1], **goal)
    assert made.line == f"|  | what {verdict}"


def test_the_table_goes_into_the_document(report, tmp_path):
    page = tmp_path / "gpu.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    report.add("swaps", Figure("fused", 2.0, "ms"))
    write_into(page, report.folder / "gpu.json")
    text = page.read_text()
    assert text.startswith("before\n<!-- measured -->\n\ncard none;")
    assert "| swaps | fused | 2 ms |" in text
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text


@pytest.mark.parametrize("name", ["run.sh", "wheels.sh"])
def test_the_shell_can_read_its_scripts(name):
    subprocess.run(["bash", "-n", FOLDER / name], check=True)


@pytest.mark.slow
def test_training_leaves_weights(tmp_path):
    (rendered, taken) = training(tmp_path, 60, images=64, pilot=1)
    assert rendered.value > 0
    assert taken.value > 0
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
