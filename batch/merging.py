"""All results of a batch in one table, and on a page to look at."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semantic_edit.batch.kept import SETTINGS, read_edits, read_left_out
from semantic_edit.batch.result_page import MOST_SHOWN, ResultPage
from semantic_edit.batch.rows import Picture, Row
from semantic_edit.batch.sources import Source
from semantic_edit.disk.reading import read_object
from semantic_edit.disk.writing import write_folder

COLUMNS = (
    *(
        "name",
        "where",
        "source",
        "source_prompt",
        "prompt",
        "image",
        "mask",
        "shard",
        "seed",
        "method",
        "model",
    ),
    *("seconds", "together", "finished", "warnings", "worked_on", "error"),
)
TABLE, PAGE = "results.csv", "index.html"


@dataclass
class Merged:
    """The results of all processes.

    edits: By name, the latest of each, without rows that the latest start left out.
    bad: The rows that the latest start left out.
    """

    edits: dict[str, dict[str, Any]] = field(default_factory=dict)
    bad: list[dict[str, Any]] = field(default_factory=list)


def merged_results(folder: Path) -> Merged:
    """The results of a folder, each row once.

    Raises:
        ValueError: If a line of a results file is no result.
    """
    merged = Merged(bad=[*read_left_out(folder)])
    for edit in read_edits(folder):
        kept = merged.edits.setdefault(edit["name"], edit)
        if kept["finished"] <= edit["finished"]:
            merged.edits[edit["name"]] = edit
    for row in merged.bad:
        merged.edits.pop(row.get("name", ""), None)  # made for what the row said before
    return merged


def merge_results(folder: Path, source: Source | None = None) -> Merged:
    """Write a table of all results, and a page to look at.

    Args:
        folder: Of a batch.
        source: The rows, of which the page shows the pictures before their edits.

    Raises:
        ValueError: If it is none, and as for `merged_results`.
    """
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"'{folder}' holds no results of a batch: there is no {SETTINGS} in it.")
    merged = merged_results(folder)
    rows = sorted([*merged.edits.values(), *merged.bad], key=_order)
    shown = {row["name"] for row in rows[:MOST_SHOWN] if "error" not in row}
    before = {} if source is None else _pictures_of(source, shown)
    page = ResultPage(folder, rows, read_object(folder / SETTINGS), before)
    write_folder(folder, {TABLE: _table(rows), PAGE: page.content()})
    return merged


def _pictures_of(source: Source, names: Collection[str]) -> dict[str, Picture]:
    """The pictures of some rows, by the rows' names, as far as the data still has them."""
    found: dict[str, Picture] = {}
    for row in source.read() if source.is_table else itertools.islice(source.read(), MOST_SHOWN):
        if len(found) == len(names):
            break
        if isinstance(row, Row) and row.name in names:
            found[row.name] = row.picture
    return found


def _order(row: Mapping[str, Any]) -> tuple[int, int, str]:
    """By line, as numbers and not as text, and by the position within the line."""
    number = re.search("[0-9]{1,18}", row["where"])
    return int(number[0]) if number else 0, row["position"], row["where"]


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "warnings": " ".join(row.get("warnings", ()))})
    return text.getvalue().encode(errors="backslashreplace")  # names of files may be no UTF-8
