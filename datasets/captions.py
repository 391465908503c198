"""COCO's captions, in the layout of its annotation files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from semantic_edit.datasets.items import RowError
from semantic_edit.datasets.records import Record, checked_record, read_json, text_of
from semantic_edit.disk.reading import shortened


@dataclass(frozen=True)
class Captions:
    """The content of a captions file.

    file: The file itself.
    files: File names by picture id.
    texts: Captions by caption id.
    first: The smallest caption id of each picture, by picture id.
    """

    file: Path
    files: dict[int, str]
    texts: dict[int, str]
    first: dict[int, int]

    def file_name(self, image: int) -> str:
        """The file name of a picture.

        Raises:
            RowError: If its id is not known.
        """
        return self._found(self.files, image, "picture")

    def caption(self, caption: int) -> str:
        """A caption by its own id.

        Raises:
            RowError: If it is not known.
        """
        return self._found(self.texts, caption, "caption")

    def first_caption(self, image: int) -> str:
        """The caption with the smallest id among a picture's captions.

        Raises:
            RowError: If the picture has none.
        """
        if image not in self.first:
            raise RowError(f"'{self.file.name}' has no caption of picture {image}")
        return self.texts[self.first[image]]

    def _found(self, values: dict[int, str], key: int, what: str) -> str:
        if key not in values:
            raise RowError(f"'{self.file.name}' has no {what} {key}")
        return values[key]


def read_captions(path: Path) -> Captions:
    """Read an object with `images` (`id`, `file_name`) and `annotations` (`id`, `image_id`, `caption`).

    Raises:
        ValueError: If the file is anything else. Such a file is published, so a mistake in it is not treated as a bad
            row.
    """
    captions = Captions(path, {}, {}, {})
    place = "the whole"
    try:
        content = checked_record(read_json(path))
        for number, value in enumerate(_listed(content, "images"), 1):
            place = f"entry {number} of `images`"
            record = checked_record(value)
            captions.files[number_of(record, "id")] = text_of(record, "file_name")
        for number, value in enumerate(_listed(content, "annotations"), 1):
            place = f"entry {number} of `annotations`"
            record = checked_record(value)
            key, image = number_of(record, "id"), number_of(record, "image_id")
            captions.texts[key] = text_of(record, "caption")
            captions.first[image] = min(key, captions.first.get(image, key))
    except RowError as error:
        raise ValueError(f"'{path}' is not in the layout of COCO's captions; {place}: {error}.") from None
    return captions


def number_of(record: Record, key: str) -> int:
    """A whole number in a record; in CSV it is text.

    Raises:
        RowError: If it is missing, or not a whole number.
    """
    value = record.get(key)
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        return int(value)
    raise RowError(
        f"`{key}` must be a whole number, got {shortened(value)}"
        if value is not None
        else f"`{key}` is missing"
    )


def _listed(content: Record, key: str) -> list[object]:
    value = content.get(key)
    if not isinstance(value, list):
        raise RowError(f"`{key}` must be a list")
    return value
