"""Results that survive a kill: one JSON object per line, appended as soon as known, and never computed twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import NoneType
from typing import Any

from semantic_edit.disk.reading import parse_object
from semantic_edit.disk.writing import append_line

Row = dict[str, Any]


class Rows:
    """The rows of a file, each found by a key that says what was asked for.

    Args:
        path: A JSON Lines file, created if it does not exist. A last line that an interrupted run left incomplete is
            removed from the file. Of several lines with one key the last counts; if it has an "error", the row counts
            as missing, so that failures are tried again.

    Raises:
        ValueError: If another line is not a row, which no interruption can cause.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._rows: dict[str, Row] = {}
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            row = self._parsed(line, number)
            self._rows[_name(row["key"])] = row
        self._rows = {name: row for name, row in self._rows.items() if "error" not in row}

    def _parsed(self, line: bytes, number: int) -> Row:
        try:
            row = parse_object(line, "a row")
            _name(row["key"])
            if isinstance(row["key"], dict) and all(map(_is_result, row.items())):
                return row
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise ValueError(
            f"Line {number} of {os.fspath(self.path)!r} is no result of this command. Remove the line to compute it "
            "again, or name another folder."
        )

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
        append_line(self.path, json.dumps(row))
        self._rows[_name(key)] = row


def _is_result(entry: tuple[str, Any]) -> bool:
    name, value = entry
    return name == "key" or isinstance(value, str if name == "error" else (int, float, NoneType))


def _name(key: Row) -> str:
    return json.dumps(key, sort_keys=True)
