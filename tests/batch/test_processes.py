"""Real processes, as `accelerate launch` starts them on CPUs: killed at random, continued by others."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semantic_edit.still_life.cases import edit_cases

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# `--cpu` starts one process, whatever number is asked for; this starts several, which find no GPU and use CPUs
LAUNCH = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Sixteen pictures, every fourth of them with two edits."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number, case in enumerate(edit_cases(16, seed=3, kinds=("colour",), objects=1)):
        case.image.save(folder / f"{number}.png")
        prompts = [case.prompt, case.source_prompt] if number % 4 == 0 else [case.prompt]
        rows.append({"image": f"{number}.png", "source_prompt": case.source_prompt, "prompt": prompts})
    (folder / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "edits.jsonl"


def command(processes: int, *words: str) -> list[str]:
    start = [sys.executable] if processes == 1 else [*LAUNCH, "--num_processes", str(processes)]
    return [*start, "-m", "semantic_edit", *words]  # of options that are there twice, the last counts


def started(processes: int, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(processes, *words),
        env=environment,
        cwd=ROOT.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def done(processes: int, *words: str) -> str:
    running = started(processes, *words)
    text, _ = running.communicate(timeout=900)
    assert running.returncode == 0, text
    return text


def batch(table: Path, out: Path, *more: str) -> list[str]:
    return ["batch", "--data", str(table), "--out", str(out), "--steps", "5", "--maps", "2", *more]


def lines_of(out: Path) -> list[dict]:
    files = sorted(out.glob("results*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def pixels(out: Path, one: dict) -> np.ndarray:
    return np.asarray(Image.open(out / one["image"])).astype(int)


@pytest.fixture(scope="module")
def alone(table, tmp_path_factory):
    """The results of one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    done(1, *batch(table, out))
    return out


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_make_what_one_makes(table, alone, tmp_path, processes):
    text = done(processes, *batch(table, tmp_path / "out", "--merge"))
    assert "rows done: 20, of them new: 20, left out: 0" in text
    assert len(list((tmp_path / "out").glob("results*.jsonl"))) == processes
    theirs = {one["name"]: one for one in lines_of(alone)}
    ours = lines_of(tmp_path / "out")
    assert sorted(one["name"] for one in ours) == sorted(theirs)
    for one in ours:
        assert one["seed"] == theirs[one["name"]]["seed"]
        assert abs(pixels(tmp_path / "out", one) - pixels(alone, theirs[one["name"]])).mean() < 0.05
    assert not list((tmp_path / "out").glob(".semantic-edit-*"))


@pytest.mark.parametrize("sharded", ["--no-shards", "--shards"])
def test_killed_at_random_and_continued_by_other_numbers_of_processes_every_row_is_there_once(
    table, tmp_path, sharded
):
    out, chance, kills = tmp_path / "out", random.Random(7), 0
    words = [*batch(table, out, sharded), "--steps", "20", "--maps", "5", "--batch", "2"]
    for processes in (2, 3, 1, 2):
        running = started(processes, *words)
        before, since = len(lines_of(out)), time.monotonic()
        while len(lines_of(out)) <= before and running.poll() is None and time.monotonic() - since < 300:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1))
        family = descendants(running.pid)
        # all of them, or one that computes, whose launcher then ends the others
        victims = [running.pid, *family] if processes == 1 or chance.random() < 0.5 else family[-1:]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        running.communicate(timeout=120)
    assert kills >= 4
    assert 0 < len(lines_of(out)) < 20  # or it says nothing
    done(3, *words, "--merge")
    names = [one["name"] for one in lines_of(out)]
    assert len(names) == len({*names}) == 20
    if sharded == "--no-shards":
        assert sorted(path.stem for path in (out / "images").iterdir()) == sorted(names)
    else:
        listed = subprocess.run(
            ["bash", "-c", f"for shard in {out}/shards/*.tar; do tar tf $shard; done"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert sorted(listed.stdout.split()) == sorted(
            f"{name}.{end}" for name in names for end in ("png", "json")
        )
        assert listed.stderr == ""


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, line.split()) for line in listed.splitlines())
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def test_one_that_dies_ends_the_others_and_nobody_waits_for_it(table, tmp_path):
    out = tmp_path / "out"
    running = started(2, *batch(table, out))
    held = out / ".semantic-edit-held-1.json"
    since = time.monotonic()
    while (not held.exists() or not held.read_text()) and time.monotonic() - since < 300:
        time.sleep(0.05)
    os.kill(json.loads(held.read_text())["process"], signal.SIGKILL)
    running.communicate(timeout=120)
    assert running.returncode != 0
    assert "rows done: 20" in done(1, *batch(table, out))


def test_bad_rows_are_told_by_their_own_process_and_in_the_exit_code(table, tmp_path):
    rows = table.read_text() + '{"image": "gone.png", "prompt": "x"}\n'
    bad = table.with_name("bad.jsonl")
    bad.write_text(rows)
    running = started(2, *batch(bad, tmp_path / "out", "--on-bad", "skip"))
    text, _ = running.communicate(timeout=900)
    assert running.returncode != 0
    assert "rows done: 20, of them new: 20, left out: 1" in text
    assert "bad.jsonl, line 17: there is no file 'gone.png'" in text


def test_evaluate_shares_its_rows_and_goes_on_with_another_number_of_processes(tmp_path):
    words = [
        "evaluate",
        "--count",
        "3",
        "--kinds",
        "colour",
        "--methods",
        "sdedit",
        "--points",
        "1",
        "--steps",
        "5",
    ]
    alone, shared = (str(tmp_path / name) for name in ("alone", "shared"))
    done(1, *words, "--out", alone)
    done(2, *words, "--out", shared)
    reports = [Path(folder, "report.md").read_text().splitlines()[2:] for folder in (alone, shared)]
    seconds = [index for index, (one, other) in enumerate(zip(*reports, strict=True)) if one != other]
    assert len(seconds) <= 4  # rows with a time
    rows = lines_of(Path(shared))
    assert len(rows) == len(lines_of(Path(alone))) == 6
    assert Path(shared, "results-1.jsonl").read_text()
    done(3, *words, "--out", shared)
    assert lines_of(Path(shared)) == rows
