"""Which rows are this process's own, and which of them run side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from semantic_edit.batch.rows import Row
from semantic_edit.batch.sources import Source
from semantic_edit.batch.team import Team
from semantic_edit.datasets.items import BadRow, RowError

WINDOW_ROWS = 20_000
"""Rows that are looked at together; those of one picture share its preparation if they are among them."""

WINDOW_BYTES = 256 * 2**20
"""The same for the content of pictures that rows carry with them."""

READERS = 8  # threads; reading a header waits for the disk

Size = tuple[int, int]
Check = Callable[[Row, Size], None]


@dataclass
class Window:
    """Rows that this process runs, and rows that it reports as bad.

    read: How many rows there are for all processes together.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    read: int = 0


def windows(source: Source, team: Team) -> Iterator[Window]:
    """This process's rows, in windows that are the same for all processes.

    The pictures of a window are dealt out in turns, so that all rows of a picture go to one process, whatever is done
    already. Records that are no rows go to the first process.

    Args:
        source: All rows.
        team: The processes.
    """
    window, turns, first, held = Window(), dict[str, int](), 0, 0
    for row in source.read():
        if isinstance(row, BadRow):
            if team.leads or source.is_own:
                window.bad.append(row)
            continue
        turn = turns.setdefault(row.picture.key, first + len(turns))
        if source.is_own or turn % team.size == team.index:
            window.rows.append(row)
        window.read, held = window.read + 1, held + row.picture.held
        if window.read >= WINDOW_ROWS or held >= WINDOW_BYTES:
            yield window
            first += len(turns)
            window, turns, held = Window(), {}, 0
    yield window


@dataclass(frozen=True, eq=False)
class Unit:
    """Rows of one picture that share its preparation.

    size: The picture's width and height.
    told: Warnings about the picture itself, once it is read.
    """

    rows: list[Row]
    size: Size
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Lot:
    """Units that can run side by side: pictures of one size, edited alike.

    likeness: What they have in common.
    """

    likeness: Hashable
    units: list[Unit]


def sized_rows(
    window: Window, file: os.PathLike[str], check: Check | None = None
) -> tuple[list[tuple[Row, Size]], list[BadRow]]:
    """A window's rows with the sizes of their pictures, and all rows that cannot be used: those of the window too.

    Args:
        window: The rows.
        file: Where they stand.
        check: Raises a `RowError` if a row cannot be used; `None` looks at nothing else.
    """
    first = {row.picture.key: row for row in window.rows}
    with ThreadPoolExecutor(READERS) as threads:
        sizes = dict(zip(first, threads.map(_size_of, first.values()), strict=True))
        masks = [row for row in window.rows if row.mask is not None]
        unread = dict(zip(map(id, masks), threads.map(_check_mask, masks), strict=True))
    good, bad = [], list(window.bad)
    for row in window.rows:
        size = sizes[row.picture.key]
        reason = size if isinstance(size, RowError) else unread.get(id(row)) or _refusal(check, row, size)
        if reason is None:
            good.append((row, size))
        else:
            bad.append(BadRow(file, row.where, str(reason)))  # type: ignore[arg-type]
    return good, bad  # type: ignore[return-value]


def _refusal(check: Check | None, row: Row, size: Size) -> RowError | None:
    try:
        if check is not None:
            check(row, size)
    except RowError as error:
        return error
    return None


def _size_of(row: Row) -> Size | RowError:
    try:
        return row.picture.size()
    except RowError as error:
        return error


def _check_mask(row: Row) -> RowError | None:
    assert row.mask is not None
    try:
        row.mask.size()
    except RowError as error:
        return error
    return None


def lots_of(
    rows: Sequence[tuple[Row, Size]],
    likeness: Callable[[Row, Size], Hashable],
    sharing: Callable[[Row, Size], Hashable],
) -> list[Lot]:
    """Rows in units, and units in lots, each in the order of its first row.

    Args:
        rows: With the sizes of their pictures.
        likeness: What rows must have in common to run side by side.
        sharing: What rows must have in common to share a preparation, besides that.
    """
    lots: dict[Hashable, dict[Hashable, Unit]] = {}
    for row, size in rows:
        units = lots.setdefault(likeness(row, size), {})
        units.setdefault(sharing(row, size), Unit([], size)).rows.append(row)
    # a picture with several rows is edited in calls of its own
    parted: dict[Hashable, list[Unit]] = {}
    for alike, units in lots.items():
        for unit in units.values():
            parted.setdefault((alike, len(unit.rows) > 1), []).append(unit)
    return [Lot(alike, units) for alike, units in parted.items()]
