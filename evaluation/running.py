"""Run methods over pictures and edits, each thing once, however often the command is interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semantic_edit.evaluation.measuring import Cases, measured_edit, measured_reconstruction
from semantic_edit.evaluation.method import EditMethod
from semantic_edit.evaluation.rows import Row, Rows
from semantic_edit.evaluation.sweeps import Sweep
from semantic_edit.still_life.judge import Judge


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared, and where its results go.

    identity: What every result depends on: the model, the split and the seed.
    shown: Of so many pictures the results are kept as files, for people to look at.
    batch: Pictures that are prepared side by side.
    """

    pipe: Any
    judge: Judge
    cases: Cases
    rows: Rows
    identity: Row
    folder: Path
    shown: int = 6
    batch: int = 8

    def edit_key(self, method: EditMethod, kind: str, number: int) -> Row:
        """What an edit's row is found by; two sweeps that meet in a setting share it."""
        return {**self.identity, "kind": kind, "number": number, **_described(method)}

    def reconstruction_key(self, sweep: Sweep, number: int) -> Row:
        """What a reconstruction's row is found by."""
        return {**self.identity, "reconstruction": number, **_described(sweep.default)}

    def picture_path(self, key: Row) -> Path:
        """Where the picture of a row is kept, if it is shown."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / "pictures" / f"{digest}.png"


def _described(method: EditMethod) -> Row:
    return {"method": type(method).__name__, "settings": asdict(method)}


def run_sweeps(
    comparison: Comparison, sweeps: Sequence[Sweep], say: Callable[[str], None] = lambda line: None
) -> None:
    """Compute every row that is not there yet. Sweeps that a preparation serves share it."""
    groups: dict[tuple[Any, ...], list[Sweep]] = {}
    for sweep in sweeps:
        groups.setdefault(sweep.default.preparation, []).append(sweep)
    numbers = range(comparison.cases.count)
    for group in groups.values():
        for first in range(0, len(numbers), comparison.batch):
            batch = [
                number
                for number in numbers[first : first + comparison.batch]
                if _todo(comparison, group, number)
            ]
            if batch:
                started = time.perf_counter()
                _run_batch(comparison, group, batch)
                seconds = time.perf_counter() - started
                say(f"{group[0].name}: pictures {batch[0]} to {batch[-1]}, {seconds:.0f} s")


def _todo(comparison: Comparison, group: Sequence[Sweep], number: int) -> list[tuple[EditMethod, str, Row]]:
    """Of one picture the method, kind and key of each row that is missing; the kind of a reconstruction is ""."""
    # SDEdit has none, which a row of no values says
    wanted = [(group[0].default, "", comparison.reconstruction_key(group[0], number))]
    for sweep in group:
        for _, method in sweep.points:
            for kind in comparison.cases.kinds:
                wanted.append((method, kind, comparison.edit_key(method, kind, number)))
    return [one for one in wanted if one[2] not in comparison.rows]


def _run_batch(comparison: Comparison, group: Sequence[Sweep], batch: Sequence[int]) -> None:
    images, prompts = zip(*(comparison.cases.source(number) for number in batch), strict=True)
    started = time.perf_counter()
    everything = group[0].default.prepare(comparison.pipe, images, prompts)
    seconds = (time.perf_counter() - started) / len(batch)
    cost = {"seconds": seconds, "batch": len(batch)}
    for number, image, prepared in zip(batch, images, everything, strict=True):
        for method, kind, key in _todo(comparison, group, number):
            if key in comparison.rows:
                continue  # two sweeps meet here
            if kind:
                _run_edit(comparison, method, prepared, kind, number, key)
            else:
                _run_reconstruction(comparison, method, prepared, image, number, key, cost)


def _run_edit(
    comparison: Comparison, method: EditMethod, prepared: Any, kind: str, number: int, key: Row
) -> None:
    case = comparison.cases.case(kind, number)
    started = time.perf_counter()
    picture = method.edit(comparison.pipe, prepared, case.prompt, seed=number)
    seconds = time.perf_counter() - started
    measured = measured_edit(comparison.pipe, comparison.judge, case, picture)
    if number < comparison.shown:
        _keep(comparison.picture_path(key), picture)
    comparison.rows.append(key, {**measured, "seconds": seconds})


def _run_reconstruction(
    comparison: Comparison,
    method: EditMethod,
    prepared: Any,
    image: Image.Image,
    number: int,
    key: Row,
    cost: Row,
) -> None:
    floats = method.reconstruct(comparison.pipe, prepared)
    measured: Row = {}
    if floats is not None:
        measured = measured_reconstruction(comparison.pipe, image, floats)
        if number < comparison.shown:
            _keep(comparison.picture_path(key), Image.fromarray((255 * floats).round().astype(np.uint8)))
    updates = method.backward_evaluations(prepared)
    comparison.rows.append(key, {**measured, "backward_evaluations": updates, **cost})


def _keep(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
