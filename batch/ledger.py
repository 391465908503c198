"""What is done already, from the results of all processes that ever worked in a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from semantic_edit.batch.results import RESULTS, not_a_result, read_results
from semantic_edit.batch.rows import Row


@dataclass
class Ledger:
    """The rows whose results are whole, and how far each shard is.

    done: Of each row, by a hash of its name and its digest, the place of its picture: a file's name, or a shard's.
    ends: The number of bytes of each shard that hold results, by its name.
    """

    done: dict[int, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)

    def place(self, row: Row) -> str | None:
        """Where a row's picture is, if that is known."""
        return self.done.get(_hash(row.name, row.digest))


def read_ledger(folder: Path) -> Ledger:
    """The ledger of a folder.

    Raises:
        ValueError: If a line of a results file is no result.
    """
    ledger = Ledger()
    for where, result in read_results(folder / RESULTS):
        if "error" in result:
            continue
        try:
            shard = result.get("shard")
            if shard is not None:
                ledger.ends[shard] = max(int(result["end"]), ledger.ends.get(shard, 0))
            place = result["image"] if shard is None else shard
            ledger.done[_hash(result["name"], result["digest"])] = place
        except (KeyError, TypeError, ValueError):
            raise not_a_result(where) from None
    return ledger


def _hash(name: str, digest: str) -> int:
    return hash((name, digest))
