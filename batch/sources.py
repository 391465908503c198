"""Where rows come from: a table, a folder in a known layout, or a dataset that the `datasets` library streams."""

from __future__ import annotations

import difflib
import importlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semantic_edit.batch.rows import Row, RowReader, keys_of, row_of_item
from semantic_edit.batch.team import Team
from semantic_edit.datasets import open_dataset
from semantic_edit.datasets.folder import TABLES
from semantic_edit.datasets.items import BadRow, EditItem, RowError
from semantic_edit.datasets.records import Record, TakesBad, files_of, only_file, read_records
from semantic_edit.disk.hub_ids import is_hub_id

EXTRA = 'pip install "diffusers-semantic-edit[data]"'
LINES = (".jsonl", ".csv")
PARQUET = ".parquet"
TABLE_SUFFIXES = (*LINES, ".json", PARQUET)
Records = Callable[[TakesBad], Iterator[tuple[str, Record]]]


@dataclass(frozen=True)
class DataChoice:
    """What data to edit.

    name: A table, a folder, or the Hub id of a dataset.
    images: The folder that pictures' paths lie in; by default the table's own.
    columns: From a row's key to the data's column for it.
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
    ignored: How many rows of the last reading have a key that nothing reads, by the key.
    """

    file: Path
    rows_of: Callable[[TakesBad], Iterator[Row]]
    is_table: bool = True
    is_own: bool = False
    ignored: Counter[str] = field(default_factory=Counter)

    def read(self) -> Iterator[Row | BadRow]:
        """Every row, in order, or why there is none."""
        bad = _Bad(self.file)
        taken: dict[int, int] = {}
        self.ignored.clear()
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
    _check_columns(choice, method)
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
            _check_has_no_table(path, choice)
            return _stream(choice, method, team)
        return Source(path, _read_items(items, left_out))
    if path.exists():
        return _table(path, choice, method)
    if path.suffix.lower() in TABLE_SUFFIXES or (path.parent != Path() and path.parent.is_dir()):
        raise ValueError(f"There is no file or folder {choice.name!r}.")
    if not is_hub_id(choice.name):
        raise ValueError(
            f"The data {choice.name!r} is neither a file nor a folder, and the Hub id of a dataset has the form "
            "owner/name."
        )
    return _stream(choice, method, team)


def _check_columns(choice: DataChoice, method: str) -> None:
    keys = keys_of(method)
    for name, column in choice.columns.items():
        if name not in keys:
            near = difflib.get_close_matches(name, keys, 1)
            hint = f"; did you mean {near[0]}?" if near else f". It may have {', '.join(keys)}."
            raise ValueError(f"`columns` {name}={column}: a row has no {name!r}{hint}")


def _check_has_no_table(folder: Path, choice: DataChoice) -> None:
    """Raise if a folder that is to be streamed holds a table, whose pictures would not be found."""
    found = files_of([folder], [f"*{suffix}" for suffix in LINES])
    if found and choice.images is None:
        raise ValueError(
            f"The folder {choice.name!r} has none of the tables that it is read by, {', '.join(TABLES)}. Name the "
            f"table itself: {' or '.join(map(str, found[:3]))}."
        )


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
    if suffix not in TABLE_SUFFIXES:
        raise ValueError(f"'{path}' must end in one of {', '.join(TABLE_SUFFIXES)}.")
    if suffix == PARQUET:
        parquet = _library("pyarrow.parquet", f"Reading {path.name}")
        return _read_with(reader, path, lambda _: _parquet_records(parquet, path))
    return _read_with(reader, path, lambda bad: read_records(path, bad))


def _read_with(reader: RowReader, file: Path, records: Records, **kind: bool) -> Source:
    """The source of what a reader makes of records; its kind is told by `is_table` and `is_own`."""
    ignored = Counter[str]()

    def rows(bad: TakesBad) -> Iterator[Row]:
        for where, record in records(bad):
            made = list[Row]()
            try:
                made = reader.rows(where, record)
            except RowError as error:
                bad.bad(where, str(error))
            ignored.update({key: max(1, len(made)) for key in reader.ignored(record)})
            yield from made

    return Source(file, rows, ignored=ignored, **kind)


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
    try:
        data = library.load_dataset(choice.name, split=choice.split, streaming=True)
    except (OSError, ValueError) as error:  # of the network too
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{choice.name!r} is no file or folder here, and as a dataset it cannot be opened: {reason}."
            if not Path(choice.name).is_dir()
            else f"The folder {choice.name!r} cannot be opened as a dataset: {reason}."
        ) from error
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

    return _read_with(reader, Path(choice.name), records, is_table=False, is_own=is_own)


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
