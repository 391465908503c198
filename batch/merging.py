"""All results of a batch in one table, and a page to look at."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from semantic_edit.batch.kept import SETTINGS, read_edits, read_left_out
from semantic_edit.disk.images import UnreadableImage, decoded_image
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
MOST_SHOWN = 1000
THUMBNAIL = 160  # pixels
STYLE = (
    "body{font:14px sans-serif;margin:2em}main{display:grid;gap:1em;"
    "grid-template-columns:repeat(auto-fill,minmax(170px,1fr))}figure{margin:0}"
    "figcaption{overflow-wrap:anywhere}small{color:#666}.bad{color:#a00}"
)


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


def merge_results(folder: Path) -> Merged:
    """Write a table of all results, and a page of thumbnails.

    Args:
        folder: Of a batch.

    Raises:
        ValueError: If it is none, and as for `merged_results`.
    """
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"'{folder}' holds no results of a batch: there is no {SETTINGS} in it.")
    merged = merged_results(folder)
    rows = sorted([*merged.edits.values(), *merged.bad], key=_order)
    write_folder(folder, {TABLE: _table(rows), PAGE: _page(folder, rows, len(merged.edits))})
    return merged


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


def _page(folder: Path, rows: Sequence[Mapping[str, Any]], edits: int) -> bytes:
    shown = rows[:MOST_SHOWN]
    heading = f"{edits} edits, {len(rows) - edits} rows left out"
    if len(shown) < len(rows):
        heading += f"; the first {len(shown)} are shown, {TABLE} has all"
    figures = "\n".join(_figures(folder, shown))
    return (
        f'<!doctype html><meta charset="utf-8"><title>{heading}</title><style>{STYLE}</style>'
        f"<h1>{heading}</h1>\n<main>\n{figures}\n</main>\n"
    ).encode()


def _figures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        if "error" in row:
            what = f'<span class="bad">{html.escape(str(row["error"]))}</span>'
        else:
            what = f"{html.escape(row['source_prompt'])} → <b>{html.escape(row['prompt'])}</b>"
        place = html.escape(f"{row.get('name', '')} {row['where']}")
        yield f"<figure>{_thumbnail(folder, row)}<figcaption>{what}<br><small>{place}</small></figcaption></figure>"


def _thumbnail(folder: Path, row: Mapping[str, Any]) -> str:
    """A small picture as a part of the page, or nothing if there is none."""
    if "error" in row:
        return ""
    try:
        if "shard" in row:
            with tarfile.open(folder / row["shard"]) as shard:
                member = shard.extractfile(row["image"])
                image = decoded_image(b"" if member is None else member.read())
        else:
            image = decoded_image(folder / row["image"])
    except (UnreadableImage, OSError, KeyError, tarfile.TarError):
        return '<span class="bad">the image is gone</span>'
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=80)
    return f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}">'
