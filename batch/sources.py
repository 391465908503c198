"""Where rows come from: a table, a folder in a known layout, or a dataset that the `datasets` library streams."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semantic_edit.batch.rows import Row, RowReader, row_of_item
from semantic_edit.batch.team import Team
from semantic_edit.datasets import open_dataset
from semantic_edit.datasets.folder import TABLES
from semantic_edit.datasets.items import BadRow, EditItem, RowError
from semantic_edit.datasets.records import Record, TakesBad, files_of, only_file, read_records
from semantic_edit.disk.hub_ids import is_hub_id

EXTRA = 'pip install "diffusers-semantic-edit[data]"'
TEXT_TABLES = (".jsonl", ".csv", ".json")
Records = Callable[[TakesBad], Iterator[tuple[str, Record]]]


@dataclass(frozen=True)
class DataChoice:
    """What data to edit.

    name: A table, a folder, or the Hub id of a dataset.
    images: The folder that pictures' paths lie in; by default the table's own.
    columns: From a row's name for something to the data's.
    split: Of a dataset that is streamed.
    """

    name: str
    images: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str = "train"


@dataclass(frozen=True)
class Source:
    """Rows that can be read again and again, in the same order.

    file: Where they stand, for messages.
    rows_of: Yields the rows; tells its argument of records that are none.
    is_table: Whether all of them can be read beforehand at little cost.
    is_own: Whether this process reads only rows that are its own.
    """

    file: Path
    rows_of: Callable[[TakesBad], Iterator[Row]]
    is_table: bool = True
    is_own: bool = False

    def read(self) -> Iterator[Row | BadRow]:
        """Every row, in order, or why there is none."""
        bad = _Bad(self.file)
        taken: dict[int, int] = {}
        rows = self.rows_of(bad)
        for number in itertools.count(1):
            row = next(rows, None)
            yield from bad.taken()
            if row is None:
                return
            key = hash(row.name.casefold())
            if (earlier := taken.setdefault(key, number)) != number:
                yield BadRow(
                    self.file, row.where, f"the same edit, or the same id {row.name!r}, as edit {earlier}"
                )
            else:
                yield row


class _Bad:
    """Collects records that are no rows until they are asked for."""

    def __init__(self, file: Path) -> None:
        self.file, self.rows = file, list[BadRow]()

    def bad(self, where: str, reason: str) -> None:
        self.rows.append(BadRow(self.file, where, reason))

    def taken(self) -> list[BadRow]:
        rows, self.rows = self.rows, []
        return rows


def open_source(choice: DataChoice, method: str, team: Team) -> Source:
    """The rows of some data.

    Args:
        choice: The data.
        method: Whose options rows may set.
        team: The processes that share the rows.

    Raises:
        ValueError: If there is no such data, it cannot be read, or a library for it is not installed.
    """
    path = Path(choice.name)
    if path.is_dir():
        if files_of([path], TABLES):
            table = only_file([path], TABLES, "Remove all but one, or name the file.")
            return _table(table, choice, method)
        left_out: list[BadRow] = []
        try:
            items = open_dataset(path, on_bad="skip", report=left_out.append)
        except ValueError as error:
            if "looks like no dataset" not in str(error):
                raise
            return _stream(choice, method, team)
        return Source(path, _read_items(items, left_out))
    if path.exists():
        return _table(path, choice, method)
    if not is_hub_id(choice.name):
        raise ValueError(
            f"The data {choice.name!r} is neither a file nor a folder, and the Hub id of a dataset has the form "
            "owner/name."
        )
    return _stream(choice, method, team)


def _read_items(items: list[EditItem], left_out: list[BadRow]) -> Callable[[TakesBad], Iterator[Row]]:
    def rows(bad: TakesBad) -> Iterator[Row]:
        for row in left_out:
            bad.bad(row.where, row.reason)
        for number, item in enumerate(items, 1):
            yield row_of_item(f"edit {number}", item)

    return rows


def _table(path: Path, choice: DataChoice, method: str) -> Source:
    reader = RowReader(method, choice.images or path.parent, choice.columns)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        parquet = _library("pyarrow.parquet", f"Reading {path.name}")
        return Source(path, _read_with(reader, lambda _: _parquet_records(parquet, path)))
    if suffix not in TEXT_TABLES:
        raise ValueError(f"'{path}' must end in one of {', '.join((*TEXT_TABLES, '.parquet'))}.")
    return Source(path, _read_with(reader, lambda bad: read_records(path, bad)))


def _read_with(reader: RowReader, records: Records) -> Callable[[TakesBad], Iterator[Row]]:
    def rows(bad: TakesBad) -> Iterator[Row]:
        for where, record in records(bad):
            try:
                yield from reader.rows(where, record)
            except RowError as error:
                bad.bad(where, str(error))

    return rows


def _parquet_records(parquet: Any, path: Path) -> Iterator[tuple[str, Record]]:
    number = itertools.count(1)
    try:
        with parquet.ParquetFile(path) as file:
            for part in file.iter_batches(batch_size=256):
                for record in part.to_pylist():
                    yield f"row {next(number)}", record
    except (OSError, ValueError) as error:  # pyarrow's about damaged files
        raise ValueError(f"'{path}' cannot be read as Parquet: {error}.") from error


def _stream(choice: DataChoice, method: str, team: Team) -> Source:
    library = _library("datasets", f"Reading the dataset {choice.name}")
    if not hasattr(library, "load_dataset"):
        raise ValueError(
            "The folder `datasets` in the current folder hides the library of that name; start the command in another "
            "folder."
        )
    data = library.load_dataset(choice.name, split=choice.split, streaming=True)
    for name, feature in (data.features or {}).items():
        if isinstance(feature, library.Image):
            data = data.cast_column(name, library.Image(decode=False))
    is_own = team.size > 1 and data.num_shards % team.size == 0
    if is_own:
        split = importlib.import_module("datasets.distributed").split_dataset_by_node
        data = split(data, rank=team.index, world_size=team.size)
    reader = RowReader(method, choice.images, choice.columns)

    def records(_: TakesBad) -> Iterator[tuple[str, Record]]:
        return ((f"row {number}", record) for number, record in enumerate(data, 1))

    return Source(Path(choice.name), _read_with(reader, records), is_table=False, is_own=is_own)


def _library(name: str, purpose: str) -> Any:
    """Import an optional library.

    Raises:
        ValueError: If it cannot be imported; says what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{purpose} needs `{name}`, which cannot be imported ({error}). Install it: {EXTRA}"
        ) from error
