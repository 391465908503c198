"""All results of a batch in one table, and on a page to look at."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semantic_edit.batch.folder import SETTINGS
from semantic_edit.batch.result_page import MOST_SHOWN, ResultPage
from semantic_edit.batch.results import RESULTS, not_a_result, read_results
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

    edits: By name, the latest of each.
    bad: Rows without any, by name or else by place.
    """

    edits: dict[str, dict[str, Any]] = field(default_factory=dict)
    bad: dict[str, dict[str, Any]] = field(default_factory=dict)


def merged_results(folder: Path) -> Merged:
    """The results of a folder, each row once.

    Raises:
        ValueError: If a line of a results file is no result.
    """
    merged = Merged()
    for where, result in read_results(folder / RESULTS):
        failed = "error" in result
        if not isinstance(result.get("where"), str) or not (failed or isinstance(result.get("name"), str)):
            raise not_a_result(where)
        kept = merged.bad if failed else merged.edits
        key = result.get("name") or result["where"]
        if key not in kept or kept[key].get("finished", "") <= result.get("finished", ""):
            kept[key] = result
    places = {one["where"] for one in merged.edits.values()}
    merged.bad = {
        key: one for key, one in merged.bad.items() if key not in merged.edits and one["where"] not in places
    }
    return merged


def merge_results(folder: Path, source: Source | None = None) -> Merged:
    """Write a table of all results, and a page to look at.

    Args:
        folder: Of a batch.
        source: The rows, of which the page shows the pictures before their edits.

    Raises:
        ValueError: As for `merged_results`.
    """
    merged = merged_results(folder)
    rows = [*sorted(merged.edits.values(), key=_order), *sorted(merged.bad.values(), key=_order)]
    shown = {row["name"] for row in rows[:MOST_SHOWN] if "error" not in row}
    before = {} if source is None else _pictures_of(source, shown)
    settings = read_object(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    page = ResultPage(folder, rows, settings, before)
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


def _order(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("name", "")), str(row["where"])


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "warnings": " ".join(row.get("warnings", ()))})
    return text.getvalue().encode()
