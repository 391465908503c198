"""Results that survive a kill: one JSON object per line, appended as soon as known, and never computed twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import NoneType
from typing import Any

from semantic_edit.batch.results import ResultsFile, not_a_result, read_results

Row = dict[str, Any]


class Rows:
    """The rows of all processes, each found by a key that says what was asked for.

    Args:
        path: The file of the first process; see `read_results`. Of several lines with one key, one without "error"
            counts, or else the last; a row with an error counts as missing, so that failures are tried again.
        process: This process's number.

    Raises:
        ValueError: If a line is not a row, which no interruption can cause.
    """

    def __init__(self, path: str | os.PathLike[str], process: int = 0) -> None:
        self._first = Path(path)
        self._file = ResultsFile(self._first, process)
        self._rows: dict[str, Row] = {}
        self._read()
        self._rows = {name: row for name, row in self._rows.items() if "error" not in row}

    @property
    def path(self) -> Path:
        """The file of this process."""
        return self._file.path

    def refresh(self) -> None:
        """Add the rows that other processes have written since, errors too."""
        self._read()

    def _read(self) -> None:
        for where, row in read_results(self._first):
            try:
                name = _name(row["key"])
            except (TypeError, KeyError, RecursionError):
                raise not_a_result(where) from None
            if not isinstance(row["key"], dict) or not all(map(_is_result, row.items())):
                raise not_a_result(where)
            if "error" not in row or "error" in self._rows.get(name, row):
                self._rows[name] = row

    def __contains__(self, key: Row) -> bool:
        return _name(key) in self._rows

    def __getitem__(self, key: Row) -> Row:
        return self._rows[_name(key)]

    def append(self, key: Row, values: Row) -> None:
        """Store a row permanently.

        Args:
            key: What was asked for, in JSON values.
            values: The results, in JSON values.
        """
        row = json.loads(json.dumps({"key": key, **values}))
        self._file.append([row])
        self._rows[_name(key)] = row


def _is_result(entry: tuple[str, Any]) -> bool:
    name, value = entry
    return name == "key" or isinstance(value, str if name == "error" else (int, float, NoneType))


def _name(key: Row) -> str:
    return json.dumps(key, sort_keys=True)
