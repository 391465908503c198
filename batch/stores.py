"""Where pictures go: files in a folder, or shards, so that no folder holds a million files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from semantic_edit.batch.diffedit import EditedRow
from semantic_edit.batch.kept import IMAGES, MASKS, SHARD, SHARDS
from semantic_edit.batch.ledger import Ledger
from semantic_edit.disk.claims import claim, claimed, is_at
from semantic_edit.disk.images import as_png
from semantic_edit.disk.writing import naming, settle, write_folder

SHARD_ROWS = 1000
SHARD_BYTES = 2**30


class Store(Protocol):
    """Keeps the pictures of rows."""

    def keep(self, edits: Sequence[EditedRow], told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write pictures for good, and say where each is: what is to be added to its result.

        Args:
            edits: The rows.
            told: The results so far.
        """

    def has(self, places: Sequence[str]) -> bool:
        """Whether all files that a result named are still there."""

    def close(self) -> None:
        """Finish what is open."""


class FolderStore:
    """A file for each picture, of one call all or none.

    Args:
        folder: Where `images` and `masks` go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settle(folder)
        self._there = {place for name in (IMAGES, MASKS) for place in _files_in(folder, name)}

    def keep(self, edits: Sequence[EditedRow], told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """See [`Store`]."""
        files: dict[str, bytes] = {}
        places = []
        for edit in edits:
            name = f"{edit.row.name}.png"
            place = {"image": f"{IMAGES}/{name}"}
            files[place["image"]] = as_png(edit.image)
            if edit.mask is not None:
                place["mask"] = f"{MASKS}/{name}"
                files[place["mask"]] = as_png(edit.mask)
            places.append(place)
        write_folder(self.folder, files)
        return places

    def has(self, places: Sequence[str]) -> bool:
        """See [`Store`]."""
        return self._there.issuperset(places)

    def close(self) -> None:
        """See [`Store`]."""


def _files_in(folder: Path, name: str) -> Iterator[str]:
    """The files in one of a folder's folders, without empty ones, which a machine that lost its power may leave."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder / name) as entries:
        yield from (f"{name}/{one.name}" for one in entries if one.is_file() and one.stat().st_size)


@dataclass
class _Shard:
    """A shard that is being filled.

    end: The bytes that are known to be whole.
    """

    name: str
    file: BinaryIO
    tar: tarfile.TarFile
    rows: int = 0
    end: int = 0

    @property
    def is_full(self) -> bool:
        return self.rows >= SHARD_ROWS or self.end >= SHARD_BYTES


class ShardStore:
    """Tar files as WebDataset reads them: of each row `<name>.png`, `<name>.json` and, if wanted, `<name>.mask.png`.

    Each process fills shards of its own, and starts a new one when it starts. A shard is closed, and with that given
    up, only after the results of its last rows are written. What a dead process left behind its last result is cut off
    by `mend_shards`.

    Args:
        folder: Where `shards` go.
        process: The number of this process.
        ledger: What is done already.
    """

    def __init__(self, folder: Path, process: int, ledger: Ledger) -> None:
        self.folder, self.process = folder, process
        self._there = {name for name, end in ledger.ends.items() if _holds(folder / name, end)}
        self._shard: _Shard | None = None

    def keep(self, edits: Sequence[EditedRow], told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """See [`Store`]."""
        if self._shard is not None and self._shard.is_full:
            self.close()
        shard = self._shard = self._shard or self._new_shard()
        with naming(self.folder / shard.name):
            places = self._added(shard, edits, told)
        shard.rows, shard.end = shard.rows + len(edits), shard.tar.offset
        return [{**place, "end": shard.end} for place in places]

    def _added(
        self, shard: _Shard, edits: Sequence[EditedRow], told: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Add rows to a shard for good, or cut it off where it ended."""
        places = []
        try:
            for edit, result in zip(edits, told, strict=True):
                name = edit.row.name
                place = {"shard": shard.name, "image": f"{name}.png"}
                _add(shard.tar, place["image"], as_png(edit.image))
                if edit.mask is not None:
                    place["mask"] = f"{name}.mask.png"
                    _add(shard.tar, place["mask"], as_png(edit.mask))
                _add(shard.tar, f"{name}.json", json.dumps(result).encode())
                places.append(place)
            shard.file.flush()
            os.fsync(shard.file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                os.truncate(self.folder / shard.name, shard.end)
            shard.file.close()
            self._shard = None
            raise
        return places

    def has(self, places: Sequence[str]) -> bool:
        """See [`Store`]."""
        return self._there.issuperset(places)

    def close(self) -> None:
        """See [`Store`]."""
        if self._shard is not None:
            with naming(self.folder / self._shard.name):
                self._shard.tar.close()
                self._shard.file.flush()
                os.fsync(self._shard.file.fileno())
                self._shard.file.close()
            self._shard = None

    def _new_shard(self) -> _Shard:
        (self.folder / SHARDS).mkdir(exist_ok=True)
        prefix = f"{self.process:05d}-"
        ours = (SHARD.fullmatch(name) for name in os.listdir(self.folder / SHARDS) if name.startswith(prefix))
        number = max((int(one[1]) for one in ours if one), default=-1)
        while True:
            number += 1
            name = f"{SHARDS}/{prefix}{number:06d}.tar"
            # unbuffered, so that nothing is written after a failure that was cut off
            handle = os.open(
                self.folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
            )
            if claim(handle) is not False and is_at(handle, self.folder / name):
                file = os.fdopen(handle, "wb", buffering=0)
                whole: Any = _Whole(file)
                return _Shard(name, file, tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT))
            os.close(handle)  # another process just took it for a leftover


class _Whole:
    """A file whose writes are complete: those of an unbuffered one may stop anywhere."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell

    def write(self, content: bytes) -> int:
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]
        return len(content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _holds(path: Path, end: int) -> bool:
    return path.is_file() and path.stat().st_size >= end


def quiet_shards(folder: Path) -> list[Path]:
    """The shards that no process will ever fill again, because it closed them or died; empty ones are removed.

    Args:
        folder: That may have `shards`.
    """
    quiet = []
    for path in sorted((folder / SHARDS).glob("*.tar")):
        if not SHARD.fullmatch(path.name):
            continue
        with claimed(path) as is_mine:
            if (
                is_mine and not path.stat().st_size
            ):  # if its process lives, it is about to claim it, and takes another
                path.unlink()
            elif is_mine:
                quiet.append(path)
    return quiet


def mend_shards(quiet: Sequence[Path], ledger: Ledger) -> None:
    """Cut off what dead processes left in their shards behind the last result, and end these as tar files end.

    A shard that has lost some of its results stays as it is: its rows are done again.

    Args:
        quiet: The shards that nobody fills.
        ledger: Read after that was known, so that it has every result of theirs.
    """
    for path in quiet:
        end = ledger.ends.get(f"{SHARDS}/{path.name}", 0)
        if not end:
            path.unlink()
        elif _holds(path, end) and not _ends_properly(path, end):
            os.truncate(path, end)
            os.truncate(path, _closed_size(end))


def _ends_properly(path: Path, end: int) -> bool:
    """Whether only zeros, as many as end a tar file, follow the last result of a shard."""
    if path.stat().st_size != _closed_size(end):
        return False
    with open(path, "rb") as file:
        file.seek(end)
        return not any(file.read())


def _closed_size(end: int) -> int:
    return -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
