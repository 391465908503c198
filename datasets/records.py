"""Hand-written tables as records: JSON Lines, CSV, or a JSON list; each record with its place in the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from semantic_edit.datasets.items import RowError
from semantic_edit.disk.reading import is_utf8, parse_json, shortened

Record = dict[str, Any]


class TakesBad(Protocol):
    """Is told of the rows that cannot be used."""

    def bad(self, where: str, reason: str) -> None:
        """Record a row that cannot even be parsed."""


def files_of(folders: Sequence[Path], patterns: Sequence[str]) -> list[Path]:
    """The files in `folders` that match one of the glob patterns, sorted within each folder."""
    return [
        path
        for folder in folders
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)})
        if path.is_file()
    ]


def only_file(folders: Sequence[Path], patterns: Sequence[str], hint: str) -> Path:
    """The one file in `folders` that matches one of the glob patterns.

    Args:
        folders: Where to look.
        patterns: Glob patterns.
        hint: What to do if there are several, for the error.

    Raises:
        ValueError: If there is none, or more than one.
    """
    found = files_of(folders, patterns)
    if not found:
        raise ValueError(
            f"There is no {' or '.join(patterns)} in {' or '.join(repr(str(one)) for one in folders)}."
        )
    if len(found) > 1:
        raise ValueError(f"Which of {', '.join(repr(str(one)) for one in found)} counts? {hint}")
    return found[0]


def read_records(path: Path, rows: TakesBad) -> Iterator[tuple[str, Record]]:
    """Each record of a table with the line (in a JSON list: the entry) where it begins, counted from 1.

    CSV contains only text, and has its keys in the first line.

    Args:
        path: The table.
        rows: Receives malformed rows as bad ones.

    Raises:
        ValueError: If the file as a whole cannot be read: another ending, not UTF-8, CSV without a first line, or a
            malformed JSON list.
    """
    readers = {".csv": _csv_records, ".jsonl": _jsonl_records, ".json": _json_records}
    if path.suffix.lower() not in readers:
        raise ValueError(f"'{path}' must end in one of {', '.join(readers)}.")
    yield from readers[path.suffix.lower()](path, rows)


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        ValueError: If it is not UTF-8; names the line.
    """
    return _decoded(path, path.read_bytes())


def _decoded(path: Path, content: bytes, first: int = 1) -> str:
    """A part of a UTF-8 file that begins with the line `first`."""
    try:
        return content.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + first
        raise ValueError(f"'{path}', line {line}, is not UTF-8. Save the file as UTF-8.") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: If it is malformed; names line and column.
    """
    return parse_json(read_text(path), f"'{path}'", _once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different; of equal ones, JSON does not say which counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise RowError(f"`{next(name for name in names if names.count(name) > 1)}` is there twice")
    return found


def text_of(record: Record, *keys: str, may_be_empty: bool = False) -> str:
    """The text under the first of `keys` that exists, without surrounding whitespace.

    Raises:
        RowError: If none exists, the value is not text, or it is empty without `may_be_empty`.
    """
    key = next((key for key in keys if record.get(key) is not None), None)
    if key is None:
        raise RowError(
            f"`{'` or `'.join(keys)}` is missing; there is {', '.join(map(str, record)) or 'nothing'}"
        )
    return checked_text(key, record[key], may_be_empty)


def optional_text(record: Record, key: str) -> str:
    """The same for one key, or "" if it does not exist.

    Raises:
        RowError: If the value is not text.
    """
    return "" if record.get(key) is None else checked_text(key, record[key], may_be_empty=True)


def checked_text(key: str, value: object, may_be_empty: bool = False) -> str:
    """`value` without surrounding whitespace.

    Raises:
        RowError: If it is not text, or empty without `may_be_empty`.
    """
    if not isinstance(value, str):
        raise RowError(f"`{key}` must be text, got {shortened(value)}")
    if not is_utf8(value):
        raise RowError(f"`{key}` holds half of a surrogate pair, which is no character: {shortened(value)}")
    text = value.strip()
    if not text and not may_be_empty:
        raise RowError(f"`{key}` is empty")
    return text


def checked_record(value: object) -> Record:
    """`value`, if it is a JSON object.

    Raises:
        RowError: If it is not.
    """
    if not isinstance(value, dict):
        raise RowError(f"must be an object with keys, got {shortened(value)}")
    return value


def _jsonl_records(path: Path, rows: TakesBad) -> Iterator[tuple[str, Record]]:
    # line by line, as a table may not fit into memory; no other breaks count, which JSON allows inside a string
    with open(path, "rb") as file:
        for number, content in enumerate(file, 1):
            line = _decoded(path, content, number).removesuffix("\n")
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                record = checked_record(json.loads(line, object_pairs_hook=_once))
            except RowError as error:
                rows.bad(where, str(error))
            except json.JSONDecodeError as error:
                rows.bad(where, f"malformed JSON at column {error.colno}: {error.msg}")
            except (ValueError, RecursionError) as error:  # numbers with thousands of digits, endless nesting
                rows.bad(where, f"JSON that cannot be read: {error}")
            else:
                yield where, record


def _json_records(path: Path, rows: TakesBad) -> Iterator[tuple[str, Record]]:
    values = read_json(path)
    if not isinstance(values, list):
        raise ValueError(f"'{path}' must hold a list of objects, got {shortened(values)}.")
    for number, value in enumerate(values, 1):
        where = f"entry {number}"
        try:
            yield where, checked_record(value)
        except RowError as error:
            rows.bad(where, str(error))


def _csv_records(path: Path, rows: TakesBad) -> Iterator[tuple[str, Record]]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True, skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ValueError(f"The first line of '{path}' is malformed CSV: {error}.") from None
    if len(header) == 1 and (other := next((one for one in ";\t|" if one in header[0]), None)):
        raise ValueError(
            f"The first line of '{path}' names one column, {header[0]!r}: separate the columns by commas instead of "
            f"{other!r}."
        )
    if not any(header) or len(set(header)) < len(header):
        raise ValueError(f"The first line of '{path}' must name the columns, each once, got {header}.")
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            rows.bad(where, f"malformed CSV: {error}")
            continue
        if len(fields) == len(header):
            yield where, dict(zip(header, fields, strict=True))
        elif fields:  # an empty line has none
            rows.bad(
                where, f"has {len(fields)} fields, the first line names {len(header)}: quote what has commas"
            )
