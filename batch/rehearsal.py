"""What a batch will take, before it is run: its rows, their sizes, and the time, measured on one call."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from semantic_edit.batch.attempts import attempted
from semantic_edit.batch.diffedit import EditedRow
from semantic_edit.batch.hearing import listening
from semantic_edit.batch.planning import Lot, Size, lots_of, sized_rows, windows
from semantic_edit.batch.running import Editor
from semantic_edit.batch.sources import Source
from semantic_edit.batch.status import spoken_time
from semantic_edit.batch.team import ALONE
from semantic_edit.datasets.items import BadRow, RowError
from semantic_edit.disk.images import as_png
from semantic_edit.disk.telling import counted


@dataclass
class Rehearsal:
    """What there is, and what a part of it took.

    pictures: The number of pictures of each size, whose rows share what they can.
    seconds, size: Of a row, and the bytes of its picture; 0 if none could be edited.
    together: The number of rows in the call that was measured.
    """

    rows: int = 0
    pictures: Counter[Size] = field(default_factory=Counter)
    bad: list[BadRow] = field(default_factory=list)
    seconds: float = 0.0
    size: int = 0
    together: int = 0

    def lines(self, processes: int) -> list[str]:
        """All that in words.

        Args:
            processes: Among which the rows will be shared.
        """
        lines = [f"rows: {self.rows}" + (f", and {len(self.bad)} that cannot be used" if self.bad else "")]
        lines += [
            f"{width} x {height} pixels: {counted(count, 'picture')}"
            for (width, height), count in sorted(self.pictures.items())
        ]
        if self.together:
            whole = self.seconds * self.rows / processes
            lines.append(
                f"measured: {self.seconds:.3g} s a row, {self.together} together; {spoken_size(self.size)} a picture"
            )
            shared = f" by {processes} processes" if processes > 1 else ""
            lines.append(
                f"expected: {spoken_time(whole)} of editing{shared}, after the start; "
                f"{spoken_size(self.size * self.rows)} of pictures"
            )
        return lines


def spoken_size(count: float) -> str:
    """A number of bytes as people say it."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def rehearse(source: Source, editor: Editor, say: Callable[[str], None] = lambda line: None) -> Rehearsal:
    """Read all rows, and edit some of those of the most frequent kind without writing anything.

    Args:
        source: The rows; of those that are streamed, only the first window.
        editor: The method.
        say: Called with each row that cannot be used.
    """
    found, most = Rehearsal(), Lot(None, [])
    for window in windows(source, ALONE):
        rows, bad = sized_rows(window, source.file, editor.check)
        found.rows, found.bad = found.rows + len(rows), found.bad + bad
        for row in bad:
            say(str(row))
        lots = lots_of(rows, editor.likeness, editor.sharing)
        found.pictures.update(unit.size for lot in lots for unit in lot.units)
        most = max([most, *lots], key=lambda lot: sum(len(unit.rows) for unit in lot.units))
        if not source.is_table:
            break
    if most.units:
        _measure(found, editor, most)
    return found


def _measure(found: Rehearsal, editor: Editor, lot: Lot) -> None:
    """Run calls of one lot until the number of rows together stays, and keep what the last of them took."""
    with listening():
        while True:
            count = editor.batch_size(lot.units[0]).now
            units = lot.units[:count]
            images = []
            for unit in units:
                with contextlib.suppress(RowError):  # damaged behind its header
                    images.append((unit, unit.rows[0].picture.read()))
            started = time.perf_counter()
            done = attempted(editor.run, images, editor.batch_size(lot.units[0]))
            seconds = time.perf_counter() - started
            rows = [one for each in done if not isinstance(each, Exception) for one in each]
            edits = [one for one in rows if isinstance(one, EditedRow)]
            if not edits:
                return
            found.seconds, found.together = seconds / len(edits), max(edit.together for edit in edits)
            found.size = sum(len(as_png(edit.image)) for edit in edits) // len(edits)
            if editor.batch_size(lot.units[0]).now <= count or count >= len(lot.units):
                return
