"""PIE-Bench, 700 pictures with ten kinds of edits, from the folder that its authors distribute.

Ju et al., PnP Inversion: Boosting Diffusion-based Editing with 3 Lines of Code, ICLR 2024 (arXiv 2310.01506).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from semantic_edit.datasets.image_files import image_size, open_rgb, path_inside
from semantic_edit.datasets.items import (
    BadRow,
    EditItem,
    ItemCollector,
    OnBad,
    RowError,
    safe_name,
)
from semantic_edit.datasets.records import (
    Record,
    checked_record,
    read_json,
    text_of,
)
from semantic_edit.disk.reading import shortened

MAPPING = "mapping_file.json"
PICTURES = "annotation_images"
LOOKS_FOR = f"{MAPPING} beside {PICTURES}/"
KINDS = (  # by `editing_type_id`
    "random",
    "change object",
    "add object",
    "delete object",
    "change content",
    "change pose",
    "change color",
    "change material",
    "change background",
    "change style",
)


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return (folder / MAPPING).is_file() and (folder / PICTURES).is_dir()


def pie_bench_items(
    folder: Path, on_bad: OnBad = "fail", report: Callable[[BadRow], None] | None = None
) -> list[EditItem]:
    """The edits in mapping_file.json, in its order and named by its keys.

    The following are read from an entry: `image_path`, in annotation_images/; `original_prompt` and `editing_prompt`,
    without the square brackets that mark the words that differ; `editing_type_id`, 0 to 9; and `mask`.

    Args:
        folder: Contains mapping_file.json and annotation_images/.
        on_bad: What a bad entry does: "fail" raises once all are read, "skip" reports it and continues without it.
        report: Called with each entry that is skipped; `None` warns.

    Raises:
        ValueError: If the mapping file cannot be read, or entries are bad: without a key, of a wrong type, without
            their picture, with a mask that does not fit it, or with a path outside the folder. Pixels are not checked
            yet.
    """
    mapping = read_json(folder / MAPPING)
    if not isinstance(mapping, dict):
        raise ValueError(f"'{folder / MAPPING}' must hold one object, whose keys name the edits.")
    rows = ItemCollector(folder / MAPPING, on_bad, report)
    for key, entry in mapping.items():
        with rows.row(f"entry {key!r}") as items:
            items.append(_item(folder, key, checked_record(entry)))
    return rows.finish()


def _item(folder: Path, key: str, entry: Record) -> EditItem:
    path = path_inside(text_of(entry, "image_path"), folder / PICTURES)
    runs, size = _runs(entry.get("mask")), image_size(path)
    _check_fit(runs, size)
    return EditItem(
        name=safe_name(key),
        source_prompt=_without_brackets(text_of(entry, "original_prompt")),
        prompt=_without_brackets(text_of(entry, "editing_prompt")),
        group=path.relative_to(folder / PICTURES).as_posix(),
        load_image=partial(open_rgb, path),
        kind=_kind(entry),
        load_mask=partial(decoded_mask, runs, size),
        load_region=partial(annotated_region, runs, size),
    )


def decoded_mask(runs: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """Booleans (height, width): where the annotators expect the edit, and along the whole border.

    The border is set because `mask_decode` in the published evaluation sets it, "to avoid annotation errors in
    boundary": figures of the background are comparable only over the same pixels.

    Args:
        runs, size: As for `annotated_region`.
    """
    mask = annotated_region(runs, size)
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    return mask


def annotated_region(runs: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """Booleans (height, width): where the annotators expect the edit.

    A run that reaches beyond the last pixel is cut off there, as in the published evaluation.

    Args:
        runs: First pixel and length of each run, alternating; pixels are counted from 0, row by row.
        size: (width, height), always 512 by 512 in the published data.
    """
    width, height = size
    flat = np.zeros(height * width, dtype=bool)
    for first, length in zip(runs[::2], runs[1::2], strict=True):
        flat[first : first + length] = True
    return flat.reshape(height, width)


def _runs(value: Any) -> tuple[int, ...]:
    if value is None:
        raise RowError("`mask` is missing")
    if not isinstance(value, list) or not all(type(one) is int and one >= 0 for one in value):
        raise RowError("`mask` must be a list of whole numbers from 0 up")
    if len(value) % 2:
        raise RowError(f"`mask` must be pairs of first pixel and length, got {len(value)} numbers")
    return tuple(value)


def _check_fit(runs: tuple[int, ...], size: tuple[int, int]) -> None:
    width, height = size
    last = max(runs[::2], default=0)
    if last >= width * height:
        raise RowError(
            f"`mask` has a run from pixel {last}, but the picture has only {width} x {height} = {width * height}: "
            "was it resized?"
        )


def _kind(entry: Record) -> str:
    value = entry.get("editing_type_id")
    if not isinstance(value, (int, str)) or str(value) not in map(str, range(len(KINDS))):
        raise RowError(f"`editing_type_id` must be one of 0 to {len(KINDS) - 1}, got {shortened(value)}")
    return KINDS[int(str(value))]


def _without_brackets(prompt: str) -> str:
    text = " ".join(prompt.replace("[", "").replace("]", "").split())
    if not text:
        raise RowError(f"{prompt!r} has no words")
    return text
