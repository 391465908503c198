"""Users' own pictures: a folder with a table that says what each shows and what it should show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from semantic_edit.datasets.image_files import image_size, load_mask, open_rgb, path_inside
from semantic_edit.datasets.items import (
    BadRow,
    EditItem,
    ItemCollector,
    OnBad,
    RowError,
    digest,
    safe_name,
)
from semantic_edit.datasets.records import (
    Record,
    checked_text,
    files_of,
    only_file,
    optional_text,
    read_records,
    text_of,
)

TABLES = ("prompts.jsonl", "prompts.csv", "metadata.jsonl", "metadata.csv")
LOOKS_FOR = f"one of {', '.join(TABLES)} beside the pictures"


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return bool(files_of([folder], TABLES))


def folder_items(
    folder: Path, on_bad: OnBad = "fail", report: Callable[[BadRow], None] | None = None
) -> list[EditItem]:
    """The edits in a folder's table, in its order.

    A row has `image` (or `file_name`, as in Hugging Face's imagefolder), a path in the folder; `source_prompt`, which
    may be ""; `prompt`, in JSON Lines possibly a list of several; optionally `kind`; and optionally `mask`, the path of
    a picture that is white where the edit is expected. Other keys are ignored. An item is named after its picture and a
    digest of its path and prompts, so that stored results are never mistaken for those of a row that was changed.

    Args:
        folder: Contains one of prompts.jsonl, prompts.csv, metadata.jsonl, metadata.csv, in UTF-8.
        on_bad: What a bad row does: "fail" raises once all rows are read, "skip" reports it and continues without it.
        report: Called with each row that is skipped; `None` warns.

    Raises:
        ValueError: If the folder has no such table or more than one, the table cannot be read, or rows are bad:
            malformed, without a key, of a wrong type, without their file, with a file whose header is not a picture's
            or a mask of another size, duplicated, or with a path outside the folder. Pixels are not checked yet.
    """
    table = only_file([folder], TABLES, "Remove all but one.")
    rows = ItemCollector(table, on_bad, report)
    for where, record in read_records(table, rows):
        with rows.row(where) as items:
            items.extend(_items(folder, record))
    return rows.finish()


def _items(folder: Path, record: Record) -> list[EditItem]:
    path = path_inside(text_of(record, "image", "file_name"), folder)
    size = image_size(path)
    source_prompt = text_of(record, "source_prompt", may_be_empty=True)
    prompts = _prompts(record)
    kind = optional_text(record, "kind")
    mask = optional_text(record, "mask")
    mask_path = path_inside(mask, folder) if mask else None
    if mask_path is not None and image_size(mask_path) != size:
        sizes = [f"{width} x {height}" for width, height in (image_size(mask_path), size)]
        raise RowError(f"the mask {mask!r} is {sizes[0]} pixels (width x height), the picture {sizes[1]}")
    group = path.relative_to(folder).as_posix()
    return [
        EditItem(
            name=safe_name(f"{path.stem}-{digest(group, source_prompt, prompt)}"),
            source_prompt=source_prompt,
            prompt=prompt,
            group=group,
            load_image=partial(open_rgb, path),
            kind=kind,
            load_mask=partial(load_mask, mask_path) if mask_path is not None else None,
        )
        for prompt in prompts
    ]


def _prompts(record: Record) -> list[str]:
    value = record.get("prompt")
    if not isinstance(value, list):
        return [text_of(record, "prompt")]
    if not value:
        raise RowError("`prompt` is an empty list")
    return [checked_text("prompt", one) for one in value]
