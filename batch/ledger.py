"""What is done already, from the results of all processes that ever worked in a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semantic_edit.batch.kept import places_of, read_edits
from semantic_edit.batch.rows import Row


@dataclass
class Ledger:
    """The rows whose results are whole, and how far each shard is.

    done: By a hash of each row's name, its digest and then the files that have its pictures, of the latest result.
    ends: The number of bytes of each shard that hold results, by its name.
    """

    done: dict[int, tuple[str, ...]] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)

    def places(self, row: Row) -> Sequence[str]:
        """The files that have a row's pictures; none if it is not done as it stands now."""
        digest, *places = self.done.get(hash(row.name), ("",))
        return places if digest == row.digest else ()


def read_ledger(folder: Path) -> Ledger:
    """The ledger of a folder.

    Raises:
        ValueError: If a line of a results file is no result.
    """
    ledger, finished = Ledger(), dict[int, str]()
    for edit in read_edits(folder):
        if "shard" in edit:
            ledger.ends[edit["shard"]] = max(edit["end"], ledger.ends.get(edit["shard"], 0))
        key = hash(edit["name"])
        if finished.get(key, "") <= edit["finished"]:
            # thousands of rows share a shard, and some a second: each text once, for there may be millions of rows
            finished[key] = sys.intern(edit["finished"])
            ledger.done[key] = (edit["digest"], *map(sys.intern, places_of(edit)))
    return ledger
