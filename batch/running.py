"""Run all rows that are this process's own, each once, however often the processes end in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from PIL import Image

from semantic_edit.batch.attempts import BatchSize, attempted
from semantic_edit.batch.diffedit import EditedRow, Outcome
from semantic_edit.batch.hearing import heard_warnings, listening
from semantic_edit.batch.ledger import Ledger
from semantic_edit.batch.overlap import ReadAhead, written_behind
from semantic_edit.batch.planning import Check, Lot, Size, Unit, Window, lots_of, sized_rows, windows
from semantic_edit.batch.results import ResultsFile
from semantic_edit.batch.rows import Row
from semantic_edit.batch.sources import Source
from semantic_edit.batch.status import Status
from semantic_edit.batch.stores import Store
from semantic_edit.batch.team import Team
from semantic_edit.datasets.items import LISTED, BadRow, RowError

Results = list[tuple[Row | None, EditedRow | BadRow]]
"""Rows with what became of them; `None` for records that are no rows."""


class Editor(Protocol):
    """A method, with a model, that edits rows; see `DiffEditor`."""

    pipe: Any

    def check(self, row: Row, size: Size) -> None:
        """Raise a `RowError` if a row's edit would be refused."""

    def likeness(self, row: Row, size: Size) -> Hashable:
        """What rows have in common that run side by side."""

    def sharing(self, row: Row, size: Size) -> Hashable:
        """What rows have in common that share a preparation."""

    def options_of(self, row: Row) -> dict[str, Any]:
        """All options of a row's edit."""

    def batch_size(self, unit: Unit) -> BatchSize:
        """How many units like this one run side by side."""

    def run(self, units: Sequence[tuple[Unit, Image.Image]]) -> list[list[Outcome]]:
        """The outcome of every row of some units that are alike."""


@dataclass(frozen=True)
class Work:
    """What is to be done, and where its results go.

    left_out: Where rows go that are left out.
    told: What every result says: the model, the method.
    skips: Whether rows that cannot be used are left out instead of ending the work.
    report: Called with each row that is left out.
    """

    source: Source
    team: Team
    editor: Editor
    store: Store
    results: ResultsFile
    left_out: ResultsFile
    ledger: Ledger
    seed: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    skips: bool = False
    report: Callable[[BadRow], None] = lambda row: None


def run_rows(work: Work, status: Status) -> None:
    """Edit every row of this process that is not done.

    Args:
        work: What is to be done.
        status: Kept up to date.

    Raises:
        ValueError: At the first row that cannot be used, if none may be left out.
        OSError: If the disk is full or fails; what was written before is whole.
    """

    def write(results: Results) -> None:
        _write(work, status, results)

    with listening(), written_behind(write) as put:
        for window in windows(work.source, work.team):
            good, bad = _left_rows(work, status, window)
            _check_bad(work, bad)  # found before, unless rows are streamed
            put(bad)
            for lot in lots_of(good, work.editor.likeness, work.editor.sharing):
                for results in _lot_results(work, lot):
                    put(results)
                    _check_bad(work, results)
    work.store.close()


def _left_rows(work: Work, status: Status, window: Window) -> tuple[list[tuple[Row, Size]], Results]:
    """What is to be done of a window, with the pictures' sizes, and what cannot be."""
    if not work.source.is_table:
        status.total += len(window.rows) + len(window.bad)
    done = [row for row in window.rows if (at := work.ledger.places(row)) and work.store.has(at)]
    status.done, status.before = status.done + len(done), status.before + len(done)
    there = set(map(id, done))
    window.rows = [row for row in window.rows if id(row) not in there]
    good, bad = sized_rows(window, work.source.file, work.editor.check)
    return good, [(None, row) for row in bad]


def _lot_results(work: Work, lot: Lot) -> Iterator[Results]:
    """The results of a lot, call by call."""
    editor, ahead = work.editor, ReadAhead(_read_image, lot.units)
    try:
        while taken := ahead.take(editor.batch_size(lot.units[0]).now):
            readable = [(unit, image) for unit, image in taken if not isinstance(image, Exception)]
            done = attempted(editor.run, readable, editor.batch_size(lot.units[0]))
            outcomes = dict(zip((id(unit) for unit, _ in readable), done, strict=True))
            yield [
                result
                for unit, image in taken
                for result in _of_each(work, unit, outcomes.get(id(unit), image))
            ]
    finally:
        ahead.close()


def _of_each(work: Work, unit: Unit, outcome: Any) -> Results:
    """The results of a unit's rows, with what was told of their picture; one error is that of all."""
    each = [outcome] * len(unit.rows) if isinstance(outcome, Exception) else outcome
    return [
        (row, BadRow(work.source.file, row.where, str(one).rstrip(".")))
        if isinstance(one, Exception)
        else (row, replace(one, warnings=(*unit.told, *one.warnings)))
        for row, one in zip(unit.rows, each, strict=True)
    ]


def _read_image(unit: Unit) -> Image.Image | RowError:
    try:
        with heard_warnings() as heard:
            image = unit.rows[0].picture.read()
    except RowError as error:
        return error
    unit.told.extend(heard)
    return image


def _check_bad(work: Work, results: Results) -> None:
    """Raise if there are rows that cannot be used, and none may be left out."""
    bad = [one for _, one in results if isinstance(one, BadRow)]
    if bad and not work.skips:
        raise _ends_it(bad)


def _write(work: Work, status: Status, results: Results) -> None:
    """Write pictures, and only then that they are there."""
    edits = [one for _, one in results if isinstance(one, EditedRow)]
    told = [_told(work, edit) for edit in edits]
    places = work.store.keep(edits, told) if edits else []
    lines = [{**one, **place} for one, place in zip(told, places, strict=True)]
    bad = [(row, one) for row, one in results if work.skips and isinstance(one, BadRow)]
    work.results.append(lines)
    work.left_out.append([_told_of_bad(*one) for one in bad])
    status.done, status.bad = status.done + len(edits), status.bad + len(bad)
    for _, one in bad:
        work.report(one)


def _told(work: Work, edit: EditedRow) -> dict[str, Any]:
    """A row's result, without the places of its pictures."""
    row = edit.row
    return {
        "name": row.name,
        "digest": row.digest,
        "where": row.where,
        "position": row.position,
        "source": row.picture.key,
        "source_prompt": row.source_prompt,
        "prompt": row.prompt,
        "seed": row.seed_under(work.seed),
        "options": work.editor.options_of(row),
        **({} if row.mask is None else {"mask_image": row.mask.key}),
        **work.told,
        "seconds": round(edit.seconds, 4),
        "together": edit.together,
        "finished": _now(),
        "warnings": list(edit.warnings),
        **({"worked_on": edit.notes} if edit.notes else {}),
    }


def _told_of_bad(row: Row | None, bad: BadRow) -> dict[str, Any]:
    """What is told of a row that is left out."""
    named = {"position": 0} if row is None else {"name": row.name, "position": row.position}
    return {**named, "where": bad.where, "error": bad.reason, "finished": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class Survey:
    """What there is to do.

    rows: Of all processes together, without records that are no rows.
    own: Of this process, with those that it reports as bad.
    """

    rows: int = 0
    own: int = 0


def survey(source: Source, team: Team, skips: bool, check: Check | None = None) -> Survey:
    """Read a table once, without doing anything.

    Args:
        source: The table.
        team: The processes that share it.
        skips: Whether bad rows may be left out; otherwise this process's pictures are looked at too.
        check: What else is looked at, in any case: it raises a `RowError` about a row, or another error about all.

    Raises:
        ValueError: Listing the rows that cannot be used, if none may be left out; or what `check` raises.
    """
    found, bad = Survey(), list[BadRow]()
    for window in windows(source, team):
        found.rows += window.read
        found.own += len(window.rows) + len(window.bad)
        if check is not None or not skips:
            bad += sized_rows(window, source.file, check)[1]
    if bad and not skips:
        raise _ends_it(bad)
    return found


class UnusableRows(ValueError):
    """Lists the rows that end a batch; it speaks of keys, not of options."""


def _ends_it(bad: Sequence[BadRow]) -> UnusableRows:
    lines = [str(row) for row in bad[:LISTED]]
    if len(bad) > LISTED:
        lines.append(f"and {len(bad) - LISTED} more")
    rows = "a row that cannot be used" if len(bad) == 1 else f"{len(bad)} rows that cannot be used"
    them = "it" if len(bad) == 1 else "them"
    return UnusableRows(
        f"The data has {rows}: {'; '.join(lines)}. Put {them} right, or leave {them} out with `on_bad` skip."
    )
