"""Rows edited by StyleDiffusion: each picture is learned once, and then restyled with all its prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from semantic_edit.batch.attempts import BatchSize, attempted
from semantic_edit.batch.checking import restyle_checker
from semantic_edit.batch.diffedit import WITHHELD, EditedRow, Outcome
from semantic_edit.batch.hearing import heard_warnings, warnings_of
from semantic_edit.batch.options import BY_WORD, LEARNED
from semantic_edit.batch.planning import Size, Unit
from semantic_edit.batch.rows import Row
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork


@dataclass(eq=False)
class Restyler:
    """Learns and restyles with a StyleDiffusion pipeline.

    pipe, options, most: As of `DiffEditor`; `most` also limits how many pictures are learned together.
    settings: How long to learn.
    """

    pipe: Any
    options: dict[str, Any]
    settings: LearningSettings
    most: int = 16
    sizes: dict[Hashable, BatchSize] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._checker = restyle_checker(self.pipe)

    def check(self, row: Row, size: Size) -> None:
        """Raise if a row's edit would be refused; see `Checker`."""
        self._checker.check(row, self.options_of(row), size)

    def likeness(self, row: Row, size: Size) -> Hashable:
        """What pictures have in common that are learned side by side."""
        return size, self._told(row, learned=True)

    def sharing(self, row: Row, size: Size) -> Hashable:
        """What rows have in common that are edits of one learned picture."""
        return row.picture.key, row.source_prompt

    def options_of(self, row: Row) -> dict[str, Any]:
        """All options of a row's edit."""
        return {**self.options, **row.options}

    def batch_size(self, unit: Unit) -> BatchSize:
        """How many pictures are learned side by side."""
        return self._rows_at("learned", unit.size)

    def run(self, units: Sequence[tuple[Unit, Image.Image]]) -> list[list[Outcome]]:
        """The outcome of every row of some pictures that are learned alike."""
        given = self._options(units[0][0].rows[0], learned=True)
        started = time.perf_counter()
        with heard_warnings() as heard:
            networks = self.pipe.learn_mapping(
                [image for _, image in units],
                [unit.rows[0].source_prompt for unit, _ in units],
                settings=self.settings,
                **given,
            )
        told = [one for one in heard if not one.startswith("The learning did not converge")]
        seconds = (time.perf_counter() - started) / len(units)
        return [
            self._restyle_picture(unit, image, network, told, seconds / len(unit.rows))
            for (unit, image), network in zip(units, networks, strict=True)
        ]

    def _rows_at(self, kind: str, size: Size) -> BatchSize:
        return self.sizes.setdefault((kind, size), BatchSize(self.most))

    def _options(self, row: Row, learned: bool) -> dict[str, Any]:
        return {name: value for name, value in self.options_of(row).items() if (name in LEARNED) == learned}

    def _told(self, row: Row, learned: bool) -> str:
        return json.dumps(self._options(row, learned), sort_keys=True)

    def _restyle_picture(
        self, unit: Unit, image: Image.Image, network: MappingNetwork, told: list[str], seconds: float
    ) -> list[Outcome]:
        """All rows of a learned picture; those that are edited alike side by side."""
        report = network.report
        if report is not None and not all(report.converged):
            told = [
                *told,
                f"the learning did not converge: the latents' error is {max(report.latent_errors):.2g}",
            ]
        alike: dict[Hashable, list[int]] = {}
        for number, row in enumerate(unit.rows):
            alone = any(name in self.options_of(row) for name in BY_WORD)
            mask = row.mask and row.mask.size()
            alike.setdefault((self._told(row, learned=False), mask, alone and row.name), []).append(number)
        outcomes: dict[int, Outcome] = {}
        for numbers in alike.values():
            rows = [unit.rows[number] for number in numbers]
            done = attempted(
                lambda part: self._call(part, image, network), rows, self._rows_at("restyled", unit.size)
            )
            outcomes |= zip(numbers, done, strict=True)
        return [_with_learning(outcomes[number], told, seconds) for number in range(len(unit.rows))]

    def _call(self, rows: list[Row], image: Image.Image, network: MappingNetwork) -> list[EditedRow]:
        given = self._options(rows[0], learned=False)
        if rows[0].mask is not None:
            masks = [row.mask.read_mask() for row in rows if row.mask is not None]
            given |= {"mask_image": masks, "image": image, "preserve_background": True}
        started = time.perf_counter()
        with heard_warnings() as heard:
            output = self.pipe(prompt=[row.prompt for row in rows], mapping_network=network, **given)
        if any(
            output.nsfw_content_detected or ()
        ):  # one by one, only those that are withheld will be left out
            raise ValueError(WITHHELD)
        seconds = (time.perf_counter() - started) / len(rows)
        (frame,) = output.frames
        return [
            EditedRow(
                row=row,
                image=output.images[edit],
                seconds=seconds,
                together=len(rows),
                warnings=tuple(warnings_of(heard, edit)),
                notes="" if frame.is_plain else str(frame),
            )
            for edit, row in enumerate(rows)
        ]


def _with_learning(outcome: Outcome, told: Sequence[str], seconds: float) -> Outcome:
    """A row's outcome with what its picture's learning told, and its part of the time that took."""
    if isinstance(outcome, Exception):
        return outcome
    return replace(outcome, warnings=(*told, *outcome.warnings), seconds=outcome.seconds + seconds)
