"""The pictures and edits that an evaluation runs over, all in one small type. Nothing here is ever downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semantic_edit.datasets import coco, folder, imagenet, pie_bench
from semantic_edit.datasets.items import BadRow, EditItem, OnBad
from semantic_edit.datasets.still_life import still_life_items

__all__ = ["LAYOUTS", "STILL_LIFE", "BadRow", "EditItem", "OnBad", "open_dataset"]

STILL_LIFE = "still-life"


@dataclass(frozen=True)
class _Layout:
    read: Callable[..., list[EditItem]]
    fits: Callable[[Path], bool]
    looks_for: str


_READERS = {
    "folder": _Layout(folder.folder_items, folder.fits, folder.LOOKS_FOR),
    "pie-bench": _Layout(pie_bench.pie_bench_items, pie_bench.fits, pie_bench.LOOKS_FOR),
    "imagenet": _Layout(imagenet.imagenet_items, imagenet.fits, imagenet.LOOKS_FOR),
    "coco": _Layout(coco.coco_items, coco.fits, coco.LOOKS_FOR),
}
LAYOUTS = tuple(_READERS)


def open_dataset(
    name_or_path: str | os.PathLike[str],
    layout: str | None = None,
    *,
    on_bad: OnBad = "fail",
    report: Callable[[BadRow], None] | None = None,
    **options: Any,
) -> list[EditItem]:
    """Open a dataset.

    Items come in an order that is always the same; pictures are only read when they are needed.

    Args:
        name_or_path: "still-life" for the embedded dataset, or a folder.
        layout: "folder", "pie-bench", "imagenet" or "coco"; `None` detects it from the folder's content.
        on_bad: What a bad row does: "fail" raises once all rows are read, "skip" reports it and continues without it.
        report: Called with each row that is skipped; `None` warns.
        options: Further arguments of the reader: of `still_life_items`, `imagenet_items`, `coco_items`.

    Raises:
        ValueError: If there is no such dataset or layout, the layout cannot be detected, or the reader rejects the
            content.
        TypeError: If the reader has no such option.
    """
    if layout is not None and layout not in _READERS:
        raise ValueError(f"`layout` must be one of {', '.join(LAYOUTS)}, or None, got {layout!r}.")
    if os.fspath(name_or_path) == STILL_LIFE and layout is None:
        return still_life_items(**options)
    place = Path(name_or_path)
    if not place.is_dir():
        what = (
            "is a file: name the folder that it lies in"
            if place.is_file()
            else f"is neither {STILL_LIFE!r} nor a folder"
        )
        raise ValueError(f"The dataset {os.fspath(name_or_path)!r} {what}.")
    return _READERS[layout or _layout_of(place)].read(place, on_bad, report, **options)


def _layout_of(place: Path) -> str:
    found = [name for name, layout in _READERS.items() if layout.fits(place)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"'{place}' looks like each of {', '.join(found)}: say by `layout` which one it is.")
    looked_for = "\n".join(f"  {name}: {layout.looks_for}" for name, layout in _READERS.items())
    raise ValueError(f"'{place}' looks like no dataset. Looked for:\n{looked_for}")
