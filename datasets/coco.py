"""Images from COCO, and captions that they should be edited to match.

DiffEdit (arXiv 2210.11427) takes its edits on COCO from BISON (Hu et al., arXiv 1901.06595): given two similar pictures
and a caption of one of them, the other picture is edited to match the caption.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from semantic_edit.datasets.captions import Captions, number_of, read_captions
from semantic_edit.datasets.image_files import image_size, open_rgb, path_inside
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
    checked_record,
    files_of,
    only_file,
    read_json,
    read_records,
    text_of,
)

CAPTIONS = ("captions_*.json",)
BISON = "bison_annotations*.json"
PAIRS = ("caption_pairs.jsonl", "caption_pairs.json", "caption_pairs.csv", BISON)
LOOKS_FOR = f"one of {', '.join([*PAIRS, *CAPTIONS])}, there or in annotations/"


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return bool(files_of(_tables(folder), [*PAIRS, *CAPTIONS]))


def coco_items(
    folder: Path,
    on_bad: OnBad = "fail",
    report: Callable[[BadRow], None] | None = None,
    *,
    pairs: str | None = None,
    captions: str | None = None,
    images: str | None = None,
) -> list[EditItem]:
    """Edits of COCO's pictures from one caption to another.

    A row of caption_pairs.jsonl, caption_pairs.json (a list) or caption_pairs.csv has `image_id` or `file_name`;
    `caption`, which says what the picture shows and may be ""; and `edited_caption`.

    An entry of bison_annotations.cocoval2014.json has `bison_id`, `caption_id`, `true_image_id` and two
    `image_candidates`, each with `image_id`: the candidate that is not the true image is edited, from the first of its
    own captions, by their ids, to the caption with id `caption_id`.

    Args:
        folder: Contains the pictures and, directly or in annotations/, the tables.
        on_bad: What a bad row does: "fail" raises once all rows are read, "skip" reports it and continues without it.
        report: Called with each row that is skipped; `None` warns.
        pairs, captions: Which files to use if there are several, as paths in `folder`. Pairs with `file_name` need no
            captions.
        images: Where the pictures are, as a path in `folder`; `None` looks there, in images/, and for
            captions_val2014.json in val2014/ and images/val2014/.

    Raises:
        ValueError: If a table cannot be read, or rows are bad: malformed, without a key, of a wrong type, with an id
            that the captions do not contain, without their picture, or with a path outside the folder. Pixels are not
            checked yet.
    """
    table = _table(folder, pairs, PAIRS, "pairs")
    known: Captions | None = None
    if captions is not None or files_of(_tables(folder), CAPTIONS):
        known = read_captions(_table(folder, captions, CAPTIONS, "captions"))
    places = _places(folder, images, known)
    rows = ItemCollector(table, on_bad, report)
    if table.match(BISON):
        _collect_bison(rows, table, places, known)
    else:
        for where, record in read_records(table, rows):
            with rows.row(where) as items:
                items.append(_pair_item(record, places, known))
    return rows.finish()


def _tables(folder: Path) -> list[Path]:
    return [folder, folder / "annotations"]


def _table(folder: Path, name: str | None, patterns: tuple[str, ...], argument: str) -> Path:
    if name is not None:
        return path_inside(name, folder)
    return only_file(_tables(folder), patterns, f"Say so by `{argument}`.")


def _places(folder: Path, images: str | None, known: Captions | None) -> list[Path]:
    """The folders that may contain the pictures."""
    if images is not None:
        if not (folder / images).is_dir():
            raise ValueError(f"`images` must name a folder in '{folder}', got {images!r}.")
        return [folder / images]
    names = ["", "images"]
    if known is not None:
        split = known.file.stem.removeprefix("captions_")
        names += [split, f"images/{split}"]
    return [folder / name for name in names]


def _find(places: list[Path], file_name: str) -> Path:
    path = path_inside(file_name, *places)
    image_size(path)
    return path


def _pair_item(record: Record, places: list[Path], known: Captions | None) -> EditItem:
    if record.get("file_name"):
        file_name = text_of(record, "file_name")
    elif known is None:
        raise RowError("without `file_name`, an `image_id` needs captions_*.json to find its picture")
    else:
        file_name = known.file_name(number_of(record, "image_id"))
    source_prompt, prompt = text_of(record, "caption", may_be_empty=True), text_of(record, "edited_caption")
    path = _find(places, file_name)
    return EditItem(
        name=safe_name(f"{path.stem}-{digest(path.name, source_prompt, prompt)}"),
        source_prompt=source_prompt,
        prompt=prompt,
        group=path.name,
        load_image=partial(open_rgb, path),
    )


def _collect_bison(rows: ItemCollector, table: Path, places: list[Path], known: Captions | None) -> None:
    if known is None:
        raise ValueError(
            f"'{table}' gives captions by their ids: put COCO's captions_val2014.json beside it."
        )
    content = read_json(table)
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(
            f"'{table}' must hold an object with a list under `data`, as BISON's annotations do."
        )
    for number, entry in enumerate(entries, 1):
        with rows.row(f"entry {number} of `data`") as items:
            items.append(_bison_item(checked_record(entry), places, known))


def _bison_item(entry: Record, places: list[Path], known: Captions) -> EditItem:
    true_image = number_of(entry, "true_image_id")
    candidates = entry.get("image_candidates")
    if not isinstance(candidates, list):
        raise RowError("`image_candidates` must be a list of two objects")
    images = [number_of(checked_record(one), "image_id") for one in candidates]
    others = [image for image in images if image != true_image]
    if len(images) != 2 or len(others) != 1:
        raise RowError(
            f"`image_candidates` must be {true_image}, the true image, and one other, got {images}"
        )
    (image,) = others
    path = _find(places, known.file_name(image))
    return EditItem(
        name=f"bison-{number_of(entry, 'bison_id'):05d}",
        source_prompt=known.first_caption(image),
        prompt=known.caption(number_of(entry, "caption_id")),
        group=path.name,
        load_image=partial(open_rgb, path),
    )
