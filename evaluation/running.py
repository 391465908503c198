"""Run methods over pictures and edits, each of them once, however often the command is interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.batch.attempts import BatchSize, attempted
from semantic_edit.batch.team import ALONE, Team
from semantic_edit.datasets import EditItem
from semantic_edit.datasets.items import digest
from semantic_edit.disk.images import as_png
from semantic_edit.disk.writing import write_file
from semantic_edit.evaluation.measuring import measured_edit, measured_reconstruction
from semantic_edit.evaluation.method import EditMethod
from semantic_edit.evaluation.metrics.edit_metrics import EditMetric
from semantic_edit.evaluation.metrics.set_metrics import SetMetrics
from semantic_edit.evaluation.rows import Row, Rows
from semantic_edit.evaluation.sweeps import Sweep

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared, and where its results go.

    items: The edits; those of one group are edits of one picture, which is prepared once for all of them.
    metrics: What is measured of each edit.
    identity: What every result depends on: the model, the metrics and the pictures' size.
    seed: Each edit draws its noise with a seed derived from this and from the edit's name.
    shown: Number of pictures for which results are kept as files to look at.
    batch: Number of pictures that are prepared side by side, if they are of one size.
    sets: What is measured of all edits of a setting together; if given, all their pictures are kept.
    skips: Whether an edit that fails is recorded as failed instead of ending the run.
    team: The processes that share the pictures.
    """

    pipe: DiffusionPipeline
    items: tuple[EditItem, ...]
    metrics: tuple[EditMetric, ...]
    rows: Rows
    identity: Row
    folder: Path
    seed: int = 0
    shown: int = 6
    batch: int = 8
    sets: SetMetrics | None = None
    skips: bool = False
    team: Team = ALONE

    @cached_property
    def groups(self) -> dict[str, list[EditItem]]:
        """The edits of each picture; a picture with two source prompts is prepared twice."""
        groups: dict[str, list[EditItem]] = {}
        for item in self.items:
            name = item.group
            if name in groups and groups[name][0].source_prompt != item.source_prompt:
                name = f"{name} {digest(item.source_prompt)}"
            groups.setdefault(name, []).append(item)
        return groups

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of edits."""
        return tuple(dict.fromkeys(item.kind for item in self.items))

    @cached_property
    def shown_groups(self) -> frozenset[str]:
        """The groups with results to look at."""
        return frozenset(list(self.groups)[: self.shown])

    @cached_property
    def kept_groups(self) -> frozenset[str]:
        """The groups whose results are kept as files."""
        return frozenset(self.groups) if self.sets else self.shown_groups

    def edit_key(self, method: EditMethod, item: EditItem) -> Row:
        """The key of an edit's row; two sweeps that have a setting in common share it."""
        prompts = [item.source_prompt, item.prompt]
        return {
            **self.identity,
            "item": item.name,
            "prompts": prompts,
            "seed": self.seed_of(item),
            **_described(method),
        }

    def reconstruction_key(self, method: EditMethod, group: str) -> Row:
        """The key of a reconstruction's row."""
        prompt = self.groups[group][0].source_prompt
        return {**self.identity, "reconstruction": group, "prompt": prompt, **_described(method)}

    def seed_of(self, item: EditItem) -> int:
        """An edit's seed, which does not depend on the rest of the dataset."""
        return int(hashlib.sha256(f"{self.seed} {item.name}".encode()).hexdigest()[:8], 16)

    def image_path(self, key: Row) -> Path:
        """Where the picture of a row is kept, if it is kept."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / "pictures" / f"{digest}.png"


def _described(method: EditMethod) -> Row:
    return {"method": type(method).__name__, "settings": asdict(method)}


@dataclass(frozen=True)
class _Lot:
    """Settings that share one preparation.

    reconstructed: The method under whose name the reconstruction is measured, if a sweep starts from it.
    """

    name: str
    first: EditMethod
    methods: tuple[EditMethod, ...]
    reconstructed: EditMethod | None


def _lots(sweeps: Sequence[Sweep]) -> list[_Lot]:
    lots: dict[tuple[Any, ...], _Lot] = {}
    for sweep in sweeps:
        lots.setdefault(sweep.default.preparation, _Lot(sweep.name, sweep.default, (), sweep.default))
        for _, method in sweep.points:
            lot = lots.get(method.preparation) or _Lot(sweep.name, method, (), None)
            lots[method.preparation] = replace(lot, methods=(*lot.methods, method))
    return list(lots.values())


def run_sweeps(comparison: Comparison, sweeps: Sequence[Sweep], say: Say = lambda line: None) -> None:
    """Compute every row that is missing of this process's pictures. Settings that can share a preparation do.

    Args:
        comparison: What to compare.
        sweeps: The methods and their settings.
        say: Called with each line of progress.
    """
    names = comparison.team.share(list(comparison.groups))
    for lot in _lots(sweeps):
        for first in range(0, len(names), comparison.batch):
            batch = [
                group for group in names[first : first + comparison.batch] if _todo(comparison, lot, group)
            ]
            started = time.perf_counter()
            for alike in _of_one_size(comparison, lot, batch, say):
                _run_batch(comparison, lot, alike, say)
            if batch:
                done = min(first + comparison.batch, len(names))
                seconds = time.perf_counter() - started
                say(f"{lot.name}: {done} of {len(names)} pictures, the last {len(batch)} in {seconds:.0f} s")


def _todo(comparison: Comparison, lot: _Lot, group: str) -> list[tuple[EditMethod, EditItem | None, Row]]:
    """For one picture, the method, edit and key of each missing row; a reconstruction has no edit."""
    wanted: list[tuple[EditMethod, EditItem | None, Row]] = []
    if lot.reconstructed is not None:  # SDEdit has no reconstruction, and gets a row without values
        key = comparison.reconstruction_key(lot.reconstructed, group)
        wanted.append((lot.reconstructed, None, key))
    for method in lot.methods:
        for item in comparison.groups[group]:
            wanted.append((method, item, comparison.edit_key(method, item)))
    return [one for one in wanted if not _is_done(comparison, *one[1:])]


def _is_done(comparison: Comparison, item: EditItem | None, key: Row) -> bool:
    """Whether a row exists, and also its picture, if that is needed later other than to look at."""
    if key not in comparison.rows:
        return False
    is_needed = comparison.sets is not None and item is not None and "error" not in comparison.rows[key]
    return not is_needed or comparison.image_path(key).is_file()


def _of_one_size(
    comparison: Comparison, lot: _Lot, groups: Sequence[str], say: Say
) -> Iterator[dict[str, Image.Image]]:
    """The groups' pictures, divided into parts of one size."""
    alike: dict[tuple[int, int], dict[str, Image.Image]] = {}
    for group in groups:
        try:
            image = comparison.groups[group][0].image
        except ValueError as error:
            _leave_out(comparison, lot, group, error, say)
        else:
            alike.setdefault(image.size, {})[group] = image
    yield from alike.values()


def _leave_out(comparison: Comparison, lot: _Lot, group: str, error: Exception, say: Say) -> None:
    """Record that a picture gives no results, or raise the reason if none may be skipped."""
    if not comparison.skips:
        raise error
    for _, _, key in _todo(comparison, lot, group):
        comparison.rows.append(key, {"error": str(error)})
    say(f"{lot.name}: left out {group}: {error}")


def _run_batch(comparison: Comparison, lot: _Lot, images: dict[str, Image.Image], say: Say) -> None:
    def prepare(groups: list[str]) -> list[Any]:
        prompts = [comparison.groups[group][0].source_prompt for group in groups]
        return lot.first.prepare(comparison.pipe, [images[group] for group in groups], prompts)

    started = time.perf_counter()
    everything = attempted(prepare, list(images), BatchSize(comparison.batch, now=comparison.batch))
    seconds = (time.perf_counter() - started) / len(images)
    cost = {"seconds": seconds, "batch": len(images)}
    for (group, image), prepared in zip(images.items(), everything, strict=True):
        if isinstance(prepared, Exception):
            _leave_out(comparison, lot, group, prepared, say)
            continue
        for method, item, key in _todo(comparison, lot, group):
            if _is_done(comparison, item, key):
                continue  # two sweeps meet here
            try:
                if item is None:
                    kept = comparison.image_path(key) if group in comparison.kept_groups else None
                    measured = _measured_reconstruction(comparison.pipe, method, prepared, image, kept)
                    comparison.rows.append(key, {**measured, **cost})
                else:
                    loaded = replace(item, load_image=image.copy)  # metrics read it repeatedly
                    _run_edit(comparison, method, prepared, loaded, key)
            except (ValueError, FloatingPointError) as error:
                if not comparison.skips:
                    raise
                comparison.rows.append(key, {"error": str(error)})
                name = f"the reconstruction of {group}" if item is None else item.name
                say(f"{type(method).__name__}: left out {name}: {error}")


def _run_edit(comparison: Comparison, method: EditMethod, prepared: Any, item: EditItem, key: Row) -> None:
    started = time.perf_counter()
    edited = method.edited(comparison.pipe, prepared, item.prompt, comparison.seed_of(item))
    seconds = time.perf_counter() - started
    values = measured_edit(comparison.pipe, comparison.metrics, item, edited)  # may fail: reads a file
    if item.group in comparison.kept_groups:
        _keep(comparison.image_path(key), edited.image)
    comparison.rows.append(key, {**values, "seconds": seconds})


def _measured_reconstruction(
    pipe: DiffusionPipeline, method: EditMethod, prepared: Any, image: Image.Image, kept: Path | None
) -> Row:
    """What is measured of a reconstruction; `kept` is the file for its picture, if it is kept."""
    floats = method.reconstruct(pipe, prepared)
    measured: Row = {}
    if floats is not None:
        measured = measured_reconstruction(pipe, image, floats)
        if kept is not None:
            _keep(kept, Image.fromarray((255 * floats).round().astype(np.uint8)))
    return {**measured, "backward_evaluations": method.backward_evaluations(prepared)}


def _keep(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, as_png(image))
