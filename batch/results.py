"""Results as lines of JSON, appended once they are true for good; each process has a file of its own.

The first process writes `results.jsonl`, the others `results-1.jsonl` and so on. All of them are read, whatever number
of processes wrote them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from semantic_edit.disk.reading import parse_object
from semantic_edit.disk.writing import append_line

RESULTS = "results.jsonl"


def own_file(first: Path, process: int) -> Path:
    """The file of one process.

    Args:
        first: That of the first process.
        process: The process's number.
    """
    return first.with_name(f"{first.stem}-{process}{first.suffix}") if process else first


def all_files(first: Path) -> dict[int, Path]:
    """The files of all processes that ever wrote results beside those of the first, by their numbers, in order."""
    name = re.compile(rf"{re.escape(first.stem)}(-([1-9][0-9]*))?{re.escape(first.suffix)}")
    found = ((path, name.fullmatch(path.name)) for path in first.parent.glob("*"))
    return dict(sorted((int(match[2] or 0), path) for path, match in found if match))


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, without a last one that is not whole: it may still be being written."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield number, line


def read_results(first: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every result of every process, with where it stands.

    Raises:
        ValueError: If a line is not a JSON object, which no interruption can cause.
    """
    for path in all_files(first).values():
        for number, line in whole_lines(path):
            where = f"Line {number} of {os.fspath(path)!r}"
            try:
                yield where, parse_object(line, "a result")
            except ValueError:
                raise not_a_result(where) from None


def not_a_result(where: str) -> ValueError:
    """The error about a line that is no result of a command."""
    return ValueError(
        f"{where} is no result of this command. Remove the line to compute it again, or name another folder."
    )


class ResultsFile:
    """The results file of this process.

    Args:
        first: The file of the first process.
        process: This process's number.
    """

    def __init__(self, first: Path, process: int = 0) -> None:
        self.path = own_file(first, process)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        with open(self.path, "rb+") as file:
            whole = sum(len(line) for line in file if line.endswith(b"\n"))
            if whole < os.fstat(file.fileno()).st_size:  # an interrupted run left an incomplete last line
                file.truncate(whole)

    def append(self, results: Sequence[dict[str, Any]]) -> None:
        """Store results permanently: the first of them or more, if the process dies meanwhile.

        Args:
            results: In JSON values.

        Raises:
            OSError: Naming the file, if it cannot be written; it is then as it was before.
        """
        if results:
            append_line(self.path, "\n".join(map(json.dumps, results)))
