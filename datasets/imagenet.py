"""From one class to another: pictures sorted by class, as in ImageNet, and pairs of classes.

DiffEdit (arXiv 2210.11427) is evaluated in this way on ImageNet, over the class pairs of FlexIT (arXiv 2203.04705).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semantic_edit.datasets.image_files import image_size, open_rgb
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
    files_of,
    only_file,
    optional_text,
    read_records,
    read_text,
    text_of,
)

TABLES = ("class_pairs.jsonl", "class_pairs.csv")
SYNSETS = "LOC_synset_mapping.txt"
LOOKS_FOR = f"one of {', '.join(TABLES)} beside a folder for each class"
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return bool(files_of([folder], TABLES))


@dataclass(frozen=True)
class _Pair:
    where: str
    source: str
    target: str
    source_words: str
    target_words: str
    images: list[Path]
    examples: list[Path]


def imagenet_items(
    folder: Path,
    on_bad: OnBad = "fail",
    report: Callable[[BadRow], None] | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    template: str = "a photo of a {name}",
    source_template: str | None = None,
) -> list[EditItem]:
    """Images of each pair's source class, to become its target class.

    A row has `source` and `target`, which are classes: names, or WordNet ids such as n02123045. The source is a
    sub-folder; the target need not have one. In prompts, a class is called by the row's `source_words` or
    `target_words`; failing that, a WordNet id by its first name in LOC_synset_mapping.txt, which is part of ImageNet's
    Kaggle edition; otherwise by the name itself, with spaces for underscores.

    If the target's folder exists, CSFID compares edits with the pictures in it.

    Args:
        folder: Contains class_pairs.jsonl or class_pairs.csv, in UTF-8, and a folder of pictures for each source class.
        on_bad: What a bad row or picture does: "fail" raises once all are read, "skip" reports it and continues without
            it.
        report: Called with each row or picture that is skipped; `None` warns.
        count: Number of pictures per pair; `None` for all of the class. Pairs with the same source class share their
            pictures, and a smaller count selects a subset of those of a larger one.
        seed: Different seeds select different pictures.
        template: The prompt, with {name} for the class.
        source_template: The source prompt; `None` for the same template, "" for an empty prompt.

    Raises:
        ValueError: If an argument is out of range, the table cannot be read, or rows are bad: malformed, without a key,
            of a wrong type, a class without a folder or words or with fewer pictures than requested, a file whose
            header is not a picture's, or a duplicate pair. Pixels are not checked yet.
    """
    if count is not None and count < 1:
        raise ValueError(f"`count` must be positive, or None for all pictures, got {count}.")
    source_template = template if source_template is None else source_template
    for name, text in {"template": template, "source_template": source_template}.items():
        if "{name}" not in text and (text or name == "template"):
            raise ValueError(f"`{name}` must have {{name}} where the class goes, got {text!r}.")
    table = only_file([folder], TABLES, "Remove all but one.")
    rows = ItemCollector(table, on_bad, report)
    names = _names_of_synsets(folder)
    pairs: list[_Pair] = []
    for where, record in read_records(table, rows):
        with rows.row(where):
            pairs.append(_pair(folder, where, record, names, count, seed))
    for pair in pairs:
        source_prompt = source_template.replace("{name}", pair.source_words)
        prompt = template.replace("{name}", pair.target_words)
        for image in pair.images:
            with rows.row(f"{pair.where}, picture {image.name!r}") as items:
                items.append(_item(pair, image, source_prompt, prompt))
    return rows.finish()


def _item(pair: _Pair, image: Path, source_prompt: str, prompt: str) -> EditItem:
    image_size(image)
    return EditItem(
        name=safe_name(f"{pair.source}-{image.stem}-to-{pair.target}"),
        source_prompt=source_prompt,
        prompt=prompt,
        group=f"{pair.source}/{image.name}",
        load_image=partial(open_rgb, image),
        target_class=pair.target,
        load_examples=partial(map, open_rgb, pair.examples) if pair.examples else None,
    )


def _pair(
    folder: Path, where: str, record: Record, names: dict[str, str], count: int | None, seed: int
) -> _Pair:
    source, target = text_of(record, "source"), text_of(record, "target")
    for key, name in (("source", source), ("target", target)):
        if name in (".", "..") or re.search(r"[/\\:\0]", name):
            raise RowError(f"`{key}` must be a class, not a path: {name!r}")
    if not os.path.isdir(folder / source):
        raise RowError(f"there is no folder {source!r} in '{folder}'")
    if source == target:
        raise RowError(f"`source` and `target` are the same, {source!r}")
    words = [_words(record, key, one, names) for key, one in (("source", source), ("target", target))]
    images, examples = _chosen(folder / source, count, seed), _images_of(folder / target)
    return _Pair(where, source, target, words[0], words[1], images, examples)


def _words(record: Record, key: str, name: str, names: dict[str, str]) -> str:
    words = optional_text(record, f"{key}_words") or names.get(name)
    if words:
        return words
    if re.fullmatch(r"n\d{8}", name):
        raise RowError(
            f"{name!r} is no word for a prompt: add `{key}_words` to the row, or {SYNSETS} to the folder"
        )
    return name.replace("_", " ")


def _chosen(folder: Path, count: int | None, seed: int) -> list[Path]:
    """The `count` pictures of a class that a hash of seed and name puts first, in the order of their names.

    Unlike random draws, this does not depend on NumPy's version, and one more file changes at most one choice.
    """
    images = _images_of(folder)
    if len(images) < (count or 1):
        raise RowError(f"the folder {folder.name!r} has {len(images)} pictures, of {count or 1} asked for")
    if count is None:
        return images
    return sorted(sorted(images, key=lambda one: _rank(seed, folder.name, one.name))[:count])


def _images_of(folder: Path) -> list[Path]:
    """The pictures in a folder; none if it does not exist."""
    if not os.path.isdir(folder):  # Path.is_dir raises for names too long for the system
        return []
    return sorted(one for one in folder.iterdir() if one.suffix.lower() in SUFFIXES and one.is_file())


def _rank(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\0".join([str(seed), *names]).encode("utf-8", "surrogatepass")).digest()


def _names_of_synsets(folder: Path) -> dict[str, str]:
    """The first name for each id, from lines such as "n01440764 tench, Tinca tinca"; empty without the file."""
    path = folder / SYNSETS
    if not path.is_file():
        return {}
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        synset, _, rest = line.partition(" ")
        name = rest.split(",")[0].strip()
        if line.strip() and not name:
            raise ValueError(f"'{path}', line {number}, must be an id, a space and names, got {line!r}.")
        names[synset] = name
    return names
