"""Tables of small pictures, and an editor that costs nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from semantic_edit.batch.attempts import BatchSize
from semantic_edit.batch.diffedit import EditedRow
from semantic_edit.batch.folder import check_settings, open_left_out, open_store
from semantic_edit.batch.results import RESULTS, ResultsFile
from semantic_edit.batch.running import Work, run_rows
from semantic_edit.batch.sources import DataChoice, open_source
from semantic_edit.batch.status import Status
from semantic_edit.batch.team import Team


@dataclass
class Negatives:
    """Makes negatives; prompts with "bad" in them are refused, and so are calls with too many rows."""

    most: int = 4
    fits: int = 100
    calls: list[list[str]] = field(default_factory=list)
    sizes: dict[Any, BatchSize] = field(default_factory=dict)
    pipe: Any = None

    def check(self, row, size):
        pass

    def likeness(self, row, size):
        return size, str(row.options)

    def sharing(self, row, size):
        return row.picture.key

    def options_of(self, row):
        return dict(row.options)

    def batch_size(self, unit):
        return self.sizes.setdefault(unit.size, BatchSize(self.most))

    def run(self, units):
        rows = [row for unit, _ in units for row in unit.rows]
        if len(rows) > self.fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate all of it")
        if len(units) > 1 and any("bad" in row.prompt for row in rows):
            raise ValueError("the prompt of one of them is bad")
        self.calls.append([row.prompt for row in rows])
        return [[self.outcome(row, image) for row in unit.rows] for unit, image in units]

    def outcome(self, row, image):
        if "bad" in row.prompt:
            return ValueError("the prompt is bad")
        return EditedRow(row, ImageOps.invert(image))


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here can tell whether a disk has kept what it was told to, and busy ones take their time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def drawn(number: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table with rows like `{"image": "0.png", "prompt": "edit 0"}`, and the pictures that it names."""

    def make(count: int = 6, *more: Any, **columns: Any) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        rows = [{"image": f"{number}.png", "prompt": f"edit {number}", **columns} for number in range(count)]
        for number in range(count):
            drawn(number).save(folder / f"{number}.png")
        lines = [json.dumps(row) if isinstance(row, dict) else row for row in (*rows, *more)]
        (folder / "edits.jsonl").write_text("\n".join(lines) + "\n")
        return folder / "edits.jsonl"

    return make


@pytest.fixture
def run_batch(tmp_path: Path) -> Callable[..., Status]:
    """Runs one process's part of a table, as one of `size`; keyword arguments replace what work has."""

    def run(table: Path, index: int = 0, size: int = 1, sharded: bool = False, **changes: Any) -> Status:
        out, team = tmp_path / "out", Team(index, size)
        out.mkdir(exist_ok=True)
        check_settings(out, {}, sharded, None)
        status, (ledger, store) = Status(), open_store(out, team, sharded)
        work = Work(
            **{
                "source": open_source(DataChoice(str(table)), "diffedit", team),
                "team": team,
                "editor": Negatives(),
                "store": store,
                "results": ResultsFile(out / RESULTS, index),
                "left_out": open_left_out(out, team),
                "ledger": ledger,
                **changes,
            }
        )
        run_rows(work, status)
        return status

    return run


@pytest.fixture
def results_of(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """All results in the folder, of all processes."""

    def results() -> list[dict[str, Any]]:
        files = sorted((tmp_path / "out").glob("results*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    return results
