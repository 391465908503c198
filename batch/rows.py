"""A row: one picture, what it shows, what it should show, and whatever else the row says about its edit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from PIL import Image

from semantic_edit.batch.options import OPTIONS, RESTYLE, read_options
from semantic_edit.datasets.image_files import path_inside
from semantic_edit.datasets.items import EditItem, RowError, digest, safe_name
from semantic_edit.datasets.records import Record, checked_text, optional_text, text_of
from semantic_edit.disk.images import ImageSource, UnreadableImage, decoded_image, size_of_file
from semantic_edit.disk.reading import shortened
from semantic_edit.pipelines import opaque_rgb

KEYS = ("image", "file_name", "source_prompt", "prompt", "id", "seed", "mask_image")
"""What a row of any method may say besides the method's options."""


@dataclass(frozen=True)
class Picture:
    """A picture that is read when it is needed.

    key: The same for the same picture: its path in the data, or a digest of its content.
    source: Its file, its content, or what loads it.
    """

    key: str
    source: ImageSource | Callable[[], Image.Image] = field(repr=False)

    def size(self) -> tuple[int, int]:
        """Width and height when upright, from the header.

        Raises:
            RowError: If it is missing or no picture.
        """
        if callable(self.source):
            return self.read().size
        try:
            return size_of_file(self.source)
        except UnreadableImage as error:
            raise RowError(f"the image {self.key!r} {error}") from None

    def read(self) -> Image.Image:
        """The picture as the pipelines see it: upright, opaque, in 8-bit RGB.

        Raises:
            RowError: If it is damaged.
        """
        try:
            return self.source() if callable(self.source) else opaque_rgb(decoded_image(self.source))
        except ValueError as error:
            raise RowError(f"the image {self.key!r} {error}") from None

    def read_mask(self) -> Image.Image:
        """The picture as a mask: as it is, without what it may record of where it came from.

        Raises:
            RowError: If it is damaged.
        """
        assert not callable(self.source)  # masks come from files and bytes
        try:
            mask = decoded_image(self.source)
        except UnreadableImage as error:
            raise RowError(f"the mask {self.key!r} {error}") from None
        mask.info.clear()
        return mask

    @property
    def held(self) -> int:
        """The number of bytes of memory that it takes before it is read."""
        return len(self.source) if isinstance(self.source, bytes) else 0


@dataclass(frozen=True, eq=False)
class Row:
    """One edit that is asked for.

    where: The file and the line, in words.
    position: Among the rows of that line, from 0.
    options: What the row sets itself, by the pipelines' names.
    seed: The row's own, or `None`.
    name: Unique among the rows, even ignoring case, and safe as a file name without its ending.
    digest: Of everything that the row asks for.
    """

    where: str
    picture: Picture
    source_prompt: str
    prompt: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    mask: Picture | None = None
    name: str = ""
    digest: str = ""
    position: int = 0

    def named(self, row_id: str = "") -> Row:
        """The same row with its name, from the data's own or from all that it asks for, and its digest."""
        mask = self.mask and self.mask.key
        asked = [self.picture.key, self.source_prompt, self.prompt, self.options, self.seed, mask]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
        stem = Path(self.picture.key.partition("#")[0]).stem
        return replace(
            self, name=_file_name(row_id) if row_id else f"{_file_name(stem)}-{digest}", digest=digest
        )

    def seed_under(self, base: int) -> int:
        """The row's seed: its own, or one that depends on its name and on nothing around it."""
        if self.seed is not None:
            return self.seed
        return int(hashlib.sha256(f"{base} {self.name}".encode()).hexdigest()[:8], 16)


@dataclass(frozen=True)
class RowReader:
    """Turns records into rows.

    method: The method, whose options rows may set.
    folder: That pictures' paths lie in; `None` if they must be in the rows.
    columns: From a row's key to the data's column for it, which every record must then have.
    """

    method: str
    folder: Path | None
    columns: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def known(self) -> frozenset[str]:
        """The keys of a record that are read."""
        return frozenset((*keys_of(self.method), *self.columns.values()))

    def ignored(self, record: Record) -> Iterator[str]:
        """The keys of a record that are not read."""
        return (key for key in record if key not in self.known)

    def rows(self, where: str, record: Record) -> list[Row]:
        """The rows of a record: one for each of its prompts.

        Raises:
            RowError: If it cannot be used.
        """
        record = self._renamed(record)
        asked = Row(
            where=where,
            picture=self._picture(record, "image", "file_name"),
            source_prompt=text_of(record, "source_prompt")
            if self.method == RESTYLE  # a picture is learned under it
            else optional_text(record, "source_prompt"),
            prompt="",
            options=read_options(self.method, record),
            seed=_seed_of(record),
            mask=None if record.get("mask_image") in (None, "") else self._picture(record, "mask_image"),
        )
        return [
            replace(asked, prompt=prompt, position=number).named(_row_id(record.get("id"), number))
            for number, prompt in enumerate(_prompts_of(record))
        ]

    def _renamed(self, record: Record) -> Record:
        """A record with the columns under the keys that they stand for."""
        for name, column in self.columns.items():
            if column not in record:
                there = ", ".join(map(str, record)) or "nothing"
                raise RowError(f"there is no column {column!r} to take `{name}` from; there is {there}")
        return {**record, **{name: record[column] for name, column in self.columns.items()}}

    def _picture(self, record: Record, *names: str) -> Picture:
        value = next((record[name] for name in names if record.get(name) is not None), None)
        path = value.get("path") if isinstance(value, dict) else None
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(value, Image.Image):
            shown = hashlib.sha256(f"{value.mode} {value.size}".encode() + value.tobytes()).hexdigest()[:16]
            return Picture(f"{names[0]}#{shown}", partial(opaque_rgb, value))
        if isinstance(content, (bytes, bytearray)):
            digest = hashlib.sha256(content).hexdigest()[:16]
            stem = re.split(r"[\\/]", path)[-1] if isinstance(path, str) and path else names[0]
            return Picture(f"{stem}#{digest}", bytes(content))
        if isinstance(value, dict):
            if not isinstance(path, str):
                raise RowError(f"`{names[0]}` has neither bytes nor a path, but {shortened(value)}")
            record = {names[0]: path}
        named = text_of(record, *names)
        if self.folder is None:
            raise RowError(
                f"`{names[0]}` names the file {named!r}, and this data has no folder with files; name it with `images`"
            )
        file = path_inside(named, self.folder)
        return Picture(file.relative_to(self.folder).as_posix(), file)


def keys_of(method: str) -> tuple[str, ...]:
    """What a row of a method may say."""
    return (*KEYS, *OPTIONS[method])


def row_of_item(where: str, item: EditItem) -> Row:
    """The row of an item of a dataset whose layout is known."""
    picture = Picture(item.group, item.load_image)
    return Row(where, picture, item.source_prompt, item.prompt).named(item.name)


def _file_name(text: str) -> str:
    """A name for files that is safe everywhere, and without dots, which in shards end a row's name."""
    plain = text.replace(".", "_")
    return safe_name(plain) if plain == text else f"{safe_name(plain)}-{digest(text)}"


def _row_id(named: Any, number: int) -> str:
    if named is None or named == "":
        return ""
    if isinstance(named, bool) or not isinstance(named, (str, int)):
        raise RowError(f"`id` must be text or a whole number, got {shortened(named)}")
    text = checked_text("id", str(named))
    return f"{text}-{number}" if number else text


def _prompts_of(record: Record) -> list[str]:
    value = record.get("prompt")
    if not isinstance(value, list):
        return [text_of(record, "prompt")]
    if not value:
        raise RowError("`prompt` is an empty list")
    return [checked_text("prompt", one) for one in value]


def _seed_of(record: Record) -> int | None:
    value = record.get("seed")
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise RowError(f"`seed` must be a whole number from 0 to {2**63 - 1}, got {shortened(value)}")
    return value
