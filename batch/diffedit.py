"""Rows edited by DiffEdit: pictures of one size side by side, or one picture with all prompts after one inversion."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from semantic_edit.batch.attempts import BatchSize, attempted
from semantic_edit.batch.checking import edit_checker
from semantic_edit.batch.hearing import heard_warnings, warnings_of
from semantic_edit.batch.options import BY_WORD
from semantic_edit.batch.planning import Size, Unit
from semantic_edit.batch.rows import Row
from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing.origins import mask_as_image
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.focusing import CLOSER

WITHHELD = "the model's safety checker withheld the result; try other words or another seed"


@dataclass(frozen=True, eq=False)
class EditedRow:
    """What became of a row.

    seconds: Its part of the time that its call took.
    together: The number of rows in that call.
    notes: Of the part and the size that the model worked at, if that was not the whole picture at its own.
    """

    row: Row
    image: Image.Image
    mask: Image.Image | None = None
    seconds: float = 0.0
    together: int = 1
    warnings: tuple[str, ...] = ()
    notes: str = ""


Outcome = EditedRow | Exception


@dataclass(eq=False)
class DiffEditor:
    """Edits rows with a DiffEdit pipeline.

    pipe: The pipeline.
    options: For rows that do not set these themselves.
    seed: From which rows without a seed get theirs.
    most: The largest number of rows in one call.
    keeps_masks: Whether the masks are wanted.
    """

    pipe: Any
    options: dict[str, Any]
    seed: int = 0
    most: int = 16
    keeps_masks: bool = False
    sizes: dict[Hashable, BatchSize] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._checker = edit_checker(self.pipe)

    def check(self, row: Row, size: Size) -> None:
        """Raise if a row's edit would be refused; see `Checker`."""
        self._checker.check(row, self.options_of(row), size)

    def likeness(self, row: Row, size: Size) -> Hashable:
        """What rows have in common that run side by side."""
        alone = row.name if self._is_alone(row, size) else ""
        return size, row.mask and row.mask.size(), json.dumps(self.options_of(row), sort_keys=True), alone

    def sharing(self, row: Row, size: Size) -> Hashable:
        """What rows have in common that share an inversion."""
        return row.picture.key

    def options_of(self, row: Row) -> dict[str, Any]:
        """All options of a row's edit."""
        return {**self.options, **row.options}

    def batch_size(self, unit: Unit) -> BatchSize:
        """How many units like this one run side by side."""
        return BatchSize(1) if len(unit.rows) > 1 else self._rows_at(unit.size)

    def run(self, units: Sequence[tuple[Unit, Image.Image]]) -> list[list[Outcome]]:
        """The outcome of every row of some units that are alike."""
        unit, image = units[0]
        if len(unit.rows) > 1:
            return [self._edit_picture(unit, image)]
        done, _ = self._call([unit.rows[0] for unit, _ in units], [image for _, image in units])
        return [[one] for one in done]

    def _rows_at(self, size: Size) -> BatchSize:
        return self.sizes.setdefault(size, BatchSize(self.most))

    def _edit_picture(self, unit: Unit, image: Image.Image) -> list[Outcome]:
        """All rows of one picture, after a single inversion."""
        inversion: Trajectory | None = None

        def run(rows: list[Row]) -> list[EditedRow]:
            nonlocal inversion
            done, made = self._call(rows, [image], inversion)
            if "encoding" not in self.options_of(rows[0]):  # otherwise the call says itself how to encode
                inversion = made
            return done

        return attempted(run, unit.rows, self._rows_at(unit.size))

    def _call(
        self, rows: list[Row], images: list[Image.Image], inversion: Trajectory | None = None
    ) -> tuple[list[EditedRow], Trajectory | None]:
        """One call of the pipeline, for one image and several rows or as many images as rows."""
        given: dict[str, Any] = self.options_of(rows[0])
        if rows[0].mask is not None:
            given["mask_image"] = [row.mask.read_mask() for row in rows if row.mask is not None]
        if inversion is not None:
            given["trajectory"] = inversion
        seeds = [row.seed_under(self.seed) for row in rows]
        started = time.perf_counter()
        with heard_warnings() as heard:
            output = self.pipe(
                image=images,
                prompt=[row.prompt for row in rows],
                source_prompt=[row.source_prompt for row in rows],
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                **given,
            )
        if any(
            output.nsfw_content_detected or ()
        ):  # one by one, only those that are withheld will be left out
            raise ValueError(WITHHELD)
        seconds = (time.perf_counter() - started) / len(rows)
        frames = output.frames or ()
        done = []
        for edit, row in enumerate(rows):
            frame = frames[edit if len(frames) > 1 else 0]
            mask = mask_as_image(output.pixel_mask[edit], frame) if self.keeps_masks else None
            notes = "" if frame.is_plain else str(frame)
            told = tuple(warnings_of(heard, edit))
            done.append(EditedRow(row, output.images[edit], mask, seconds, len(rows), told, notes))
        return done, output.trajectory

    def _is_alone(self, row: Row, size: Size) -> bool:
        """Whether a row's edit would depend on others in its call: where they look closer, they do so together."""
        options = self.options_of(row)
        if any(name in options for name in BY_WORD):
            return True
        focus = options.get("focus")
        own = denoiser_of(self.pipe).own_size
        return focus is True or (focus is None and math.prod(own) <= CLOSER**2 * math.prod(size))
