"""What an evaluation runs over, wherever it comes from: a picture and one edit of it, with all that is known."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from semantic_edit.still_life.cases import EditCase

OnBad = Literal["fail", "skip"]
LISTED = 20  # of the bad rows of a file, in one error
_LONGEST_NAME = 120  # leaves room for what others append; file systems allow 255 bytes


@dataclass(frozen=True, eq=False)
class EditItem:
    """One picture and one edit of it.

    name: Unique in its dataset, even ignoring case; the same at every reading, and safe as a file name.
    source_prompt: What the picture shows; "" if the data does not say.
    prompt: What the picture should show.
    group: The picture. Items of one group are edits of one picture, and therefore not independent samples.
    load_image: Reads the picture.
    kind: The kind of edit, in the data's words; "" if the data does not say.
    load_mask: Reads the mask, if the data has one: everything that may change.
    load_region: Reads where the edit is, if that is not all of the mask.
    case: The edit's ground truth, which only still lifes have.
    target_class: The class that the picture should show, if the data has true pictures of it.
    load_examples: Reads these, one after the other.
    """

    name: str
    source_prompt: str
    prompt: str
    group: str
    load_image: Callable[[], Image.Image]
    kind: str = ""
    load_mask: Callable[[], np.ndarray] | None = None
    load_region: Callable[[], np.ndarray] | None = None
    case: EditCase | None = None
    target_class: str = ""
    load_examples: Callable[[], Iterable[Image.Image]] | None = None

    @property
    def image(self) -> Image.Image:
        """The picture in RGB, upright. It is read again at every access, so keep it if it is needed twice.

        Raises:
            ValueError: If the file is damaged after its header, which is all that opening a dataset checks.
        """
        return self.load_image()

    @property
    def mask(self) -> np.ndarray | None:
        """Where the data expects the edit, booleans (height, width) of the picture's size, or `None`.

        Raises:
            ValueError: As for `image`.
        """
        return None if self.load_mask is None else self.load_mask()

    @property
    def region(self) -> np.ndarray | None:
        """What a found mask is compared with: the mask, or the part of it that the annotators meant.

        Raises:
            ValueError: As for `image`.
        """
        return self.mask if self.load_region is None else self.load_region()


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used.

    file: The file with the row.
    where: The line or entry, in words.
    reason: A clause that says why.
    """

    file: Path
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, {self.where}: {self.reason}"


class RowError(ValueError):
    """Why a row cannot be used; whoever catches it knows where the row is."""


class ItemCollector:
    """Collects items row by row, and the faults of rows that give none.

    Args:
        file: The file with the rows.
        on_bad: "fail" raises once all rows are read; "skip" reports a bad row and continues without it.
        report: Called with each row that is skipped; `None` warns.
    """

    def __init__(self, file: Path, on_bad: OnBad, report: Callable[[BadRow], None] | None) -> None:
        if on_bad not in get_args(OnBad):
            raise ValueError(f'`on_bad` must be "fail" or "skip", got {on_bad!r}.')
        self.file = file
        self._skips = on_bad == "skip"
        self._report = report or _warn
        self._items: list[EditItem] = []
        self._bad: list[BadRow] = []
        self._taken: dict[str, str] = {}

    @contextmanager
    def row(self, where: str) -> Iterator[list[EditItem]]:
        """A list for the items of one row; all of them are kept, or none if a `RowError` is raised in the block."""
        items: list[EditItem] = []
        try:
            yield items
            taken = self._newly_taken(items, where)
        except RowError as error:
            self.bad(where, str(error))
        else:
            self._taken |= taken
            self._items += items

    def bad(self, where: str, reason: str) -> None:
        """Record a row that cannot even be parsed."""
        row = BadRow(self.file, where, reason)
        self._bad.append(row)
        if self._skips:
            self._report(row)

    def finish(self) -> list[EditItem]:
        """The items, in the order of the rows.

        Raises:
            ValueError: If there are bad rows and they may not be skipped, or if no item is left.
        """
        if self._bad and not self._skips:
            lines = [f"  {row.where}: {row.reason}" for row in self._bad[:LISTED]]
            if len(self._bad) > LISTED:
                lines.append(f"  and {len(self._bad) - LISTED} more")
            raise ValueError(
                "\n".join([f"'{self.file}' has rows that cannot be used, {len(self._bad)} in all:", *lines])
                + '\nPut them right, or pass on_bad="skip" to leave them out.'
            )
        if not self._items:
            skipped = f"all {len(self._bad)} were bad and skipped" if self._bad else "it has no rows"
            raise ValueError(f"'{self.file}' gives nothing to edit: {skipped}.")
        return self._items

    def _newly_taken(self, items: list[EditItem], where: str) -> dict[str, str]:
        taken: dict[str, str] = {}
        for item in items:
            name = item.name.casefold()
            earlier = self._taken.get(name) or taken.get(name)
            if earlier:
                raise RowError(f"the same edit of the same picture, {item.name!r}, as in {earlier}")
            taken[name] = where
        return taken


def _warn(row: BadRow) -> None:
    warnings.warn(f"left out: {row}", stacklevel=2)


def digest(*texts: str) -> str:
    """Eight hexadecimal digits that distinguish these texts from some others, such as those of one picture."""
    return _sha256(*texts)[:8]


def _sha256(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def safe_name(text: str) -> str:
    """`text` if it is safe as a file name everywhere; otherwise its safe characters and a digest of all of it.

    The digest has 64 bits, so that millions of names in other scripts, which have no safe characters, stay apart.
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:_LONGEST_NAME]
    return safe if safe == text != "" else f"{safe}-{_sha256(text)[:16]}".lstrip("-")
