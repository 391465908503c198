"""What the lines of a batch's files say, checked: anyone may have damaged or rewritten them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from semantic_edit.batch.results import RESULTS, not_a_result, read_results
from semantic_edit.disk.reading import plain_text, several, whole_number

IMAGES, MASKS, SHARDS = "images", "masks", "shards"
SETTINGS = "batch.json"
LEFT_OUT = "left_out.jsonl"
"""The rows that the latest start left out; each process has a file of its own, as of results."""

SHARD = re.compile(r"[0-9]{5}-([0-9]{6})\.tar")
_NAME = re.compile("[A-Za-z0-9_-]+")
_is_text, _ = plain_text()
_are_texts, _ = several(plain_text(), 0, 10_000)
_is_count, _ = whole_number(0, 2**53)
_TEXTS = ("digest", "where", "source_prompt", "prompt", "finished")


def read_edits(folder: Path) -> Iterator[dict[str, Any]]:
    """The result of every row that is done, of all processes; of one name several, if the row was changed.

    Raises:
        ValueError: If a line is no result of a batch.
    """
    for where, result in read_results(folder / RESULTS):
        if not _is_edit(result):
            raise not_a_result(where)
        yield result


def read_left_out(folder: Path) -> Iterator[dict[str, Any]]:
    """Every row that the latest start left out, with its error; only records that are rows have a name.

    Raises:
        ValueError: If a line says something else.
    """
    for where, row in read_results(folder / LEFT_OUT):
        texts = (row.get("where"), row.get("error"), row.get("finished"), row.get("name", ""))
        if not all(map(_is_text, texts)) or not _is_count(row.get("position")):
            raise not_a_result(where)
        yield row


def places_of(edit: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that have the pictures of a row, as paths in its batch's folder."""
    names = ("shard",) if "shard" in edit else ("image", "mask") if "mask" in edit else ("image",)
    return tuple(edit[name] for name in names)


def _is_edit(result: Mapping[str, Any]) -> bool:
    name = result.get("name")
    return (
        isinstance(name, str)
        and _NAME.fullmatch(name) is not None
        and all(_is_text(result.get(text)) for text in _TEXTS)
        and isinstance(result.get("source"), str)  # of a file, whose name need not be UTF-8
        and isinstance(result.get("options"), dict)
        and _are_texts(result.get("warnings"))
        and _is_count(result.get("seed"))
        and _is_count(result.get("position"))
        and _are_places(name, result)
    )


def _are_places(name: str, result: Mapping[str, Any]) -> bool:
    """Whether a row's pictures are where its name says, and so within the folder."""
    if "shard" not in result:
        image, mask = f"{IMAGES}/{name}.png", f"{MASKS}/{name}.png"
    else:
        image, mask = f"{name}.png", f"{name}.mask.png"
        shard, end = result["shard"], result.get("end")
        if not isinstance(shard, str) or not _is_count(end) or not end:
            return False
        if not shard.startswith(f"{SHARDS}/") or not SHARD.fullmatch(shard.removeprefix(f"{SHARDS}/")):
            return False
    return result.get("image") == image and result.get("mask", mask) == mask
