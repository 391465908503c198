"""The one way in which files are written: encoded beforehand, then all of them or none.

Every file is written next to its place, flushed to disk, and then moved. If several files go into one folder, a list of
the moves is put there first, and the single rename that does so decides: a process that dies before it has changed
nothing, and if one dies after it, the remaining moves are made by the next process that looks into the folder
(`settle`).
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from semantic_edit.disk.claims import OURS, claim, claimed, is_at
from semantic_edit.disk.reading import read_object

UNFINISHED = ".unfinished"
MOVES = ".moves.json"


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file; see `write_files`.

    Raises:
        OSError: Naming the file, if it cannot be written.
    """
    write_files({Path(path): content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files: of those in one folder, all or none. A reader sees either the old or the new file, always complete.

    A link stays a link, and what it points to is replaced; a replaced file keeps its permissions; a character device,
    such as /dev/null, is written to directly.

    Args:
        contents: Bytes by path.

    Raises:
        OSError: Naming the file, if it cannot be written, for example because the disk is full.
    """
    folders: dict[Path, dict[str, bytes]] = {}
    devices: dict[Path, bytes] = {}
    for path, content in contents.items():
        if place_kind(path) == "device":
            devices[path] = content
        else:
            place = Path(os.path.realpath(path))
            folders.setdefault(place.parent, {})[place.name] = content
    for folder, files in folders.items():
        _write(folder, files)
    for path, content in devices.items():
        with naming(path), open(path, "wb", buffering=0) as device:
            _write_all(device, content)


def write_folder(folder: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
    """Write files into one folder, all or none.

    Args:
        folder: Created if it does not exist; other files in it stay.
        files: Bytes by path inside the folder, written with slashes.

    Raises:
        OSError: Naming the file that cannot be written.
    """
    root = Path(os.path.realpath(folder))
    with _folders_made([root, *((root / name).parent for name in files)]):
        _write(root, files)


def _write(root: Path, files: Mapping[str, bytes]) -> None:
    settle(root)
    token = os.urandom(16).hex()
    with contextlib.ExitStack() as stack:
        moves = {f"{OURS}{token}-{index}{UNFINISHED}": name for index, name in enumerate(files)}
        for (beside, name), content in zip(moves.items(), files.values(), strict=True):
            stack.enter_context(_written_beside(root / beside, root / name, content))
        if len(moves) == 1:
            return _move(root, moves)
        agreed = root / f"{OURS}{token}{MOVES}"
        draft = agreed.with_suffix(UNFINISHED)
        stack.enter_context(_written_beside(draft, agreed, json.dumps(moves).encode()))
        _sync_folder(root)
        os.replace(draft, agreed)  # this decides
        try:
            _move(root, moves)
        finally:
            _finish(agreed, moves)  # again, in case that was interrupted


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Append a line to a file and flush it to disk; if that fails, the file is as it was before.

    Args:
        line: Without a line break.

    Raises:
        OSError: Naming the file, if it cannot be written.
    """
    with naming(path), open(path, "ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            _write_all(file, line.encode() + b"\n")
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


@contextlib.contextmanager
def file_to_fill(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file whose content does not fit into memory.

    Yields:
        A file to fill during the block; it becomes `path` if the block succeeds.

    Raises:
        OSError: Naming the file, if it cannot be written.
    """
    place = Path(os.path.realpath(path))
    settle(place.parent)
    beside = place.parent / f"{OURS}{os.urandom(16).hex()}-0{UNFINISHED}"
    with contextlib.ExitStack() as stack:
        stack.callback(beside.unlink, missing_ok=True)
        file = stack.enter_context(open(_new_file(beside, place), "wb", buffering=0))
        yield beside
        os.fsync(file.fileno())
        _move(place.parent, {beside.name: place.name})


def settle(folder: str | os.PathLike[str]) -> None:
    """Clean up a folder after processes that died: make the moves they had committed to, and remove their other files.

    Files that a running process is writing stay. If the folder does not exist or cannot be changed, nothing happens.
    """
    root = Path(folder)
    try:
        names = [name for name in os.listdir(root) if name.startswith(OURS)]
    except OSError:
        return
    for name in (one for one in names if one.endswith(MOVES)):
        with claimed(root / name) as is_mine:
            if is_mine:
                with contextlib.suppress(OSError, ValueError):
                    _finish(root / name, _read_moves(root, name))
    for name in (one for one in names if one.endswith(UNFINISHED)):
        token = name.removeprefix(OURS)[:32]
        with claimed(root / name) as is_mine:
            # if its list of moves is still there, another process is working on it
            if is_mine and not (root / f"{OURS}{token}{MOVES}").exists():
                with contextlib.suppress(OSError):
                    (root / name).unlink()


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the right file in an error of the system, which may name the one next to it or none at all."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def entries(folder: Path) -> list[Path]:
    """The files in a folder, without the leftovers of processes that died while writing there."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(OURS))


def place_kind(path: str | os.PathLike[str]) -> str:
    """What is at a path that is to be written.

    Returns:
        "nothing", "file", "folder", "device" (such as /dev/null), or "other" (a pipe, a socket or a disk), which cannot
        be written.

    Raises:
        OSError: If nothing can ever be there, for example because the name is too long.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "nothing"
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFCHR: "device"}
    return kinds.get(stat.S_IFMT(mode), "other")


@contextlib.contextmanager
def _written_beside(beside: Path, place: Path, content: bytes) -> Iterator[None]:
    """Write `content` to a file that is to become `place`, claimed during the block and removed if then still there."""
    with contextlib.ExitStack() as stack:
        stack.callback(beside.unlink, missing_ok=True)
        with naming(place):
            file = stack.enter_context(open(_new_file(beside, place), "wb", buffering=0))
            _write_all(file, content)
            if place.exists():
                os.chmod(beside, stat.S_IMODE(place.stat().st_mode))
            os.fsync(file.fileno())
            if os.fstat(file.fileno()).st_size != len(content):
                raise OSError(errno.EIO, "The disk kept only part of the file", os.fspath(place))
        if os.name == "nt":  # open files cannot be moved there
            file.close()
        yield


def _write_all(file: io.FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _new_file(beside: Path, place: Path) -> int:
    """A new, claimed file that is to become `place`."""
    if place_kind(place) not in ("nothing", "file"):
        raise OSError(errno.EISDIR, "Is something other than a file", os.fspath(place))
    while True:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        while (
            claim(handle) is False
        ):  # a process that settles the folder mistook it for a leftover, and is removing it
            time.sleep(0.001)
        if is_at(handle, beside):
            return handle
        os.close(handle)


def _finish(agreed: Path, moves: Mapping[str, str]) -> None:
    """Make the moves that are still to be made, then remove their list."""
    root = agreed.parent
    _move(root, {beside: name for beside, name in moves.items() if (root / beside).exists()})
    agreed.unlink(missing_ok=True)


def _move(root: Path, moves: Mapping[str, str]) -> None:
    for beside, name in moves.items():
        with naming(root / name):
            os.replace(root / beside, root / name)
    for folder in {(root / name).parent for name in moves.values()}:
        _sync_folder(folder)


def _read_moves(root: Path, name: str) -> dict[str, str]:
    """The list of moves in a folder, after checking that it moves only our own files, and only within that folder.

    The folder may come from anyone.
    """
    moves = read_object(root / name)
    token = name.removeprefix(OURS).removesuffix(MOVES)
    inside = os.path.realpath(root)
    for beside, to in moves.items():
        is_inside = isinstance(to, str) and os.path.realpath(root / to).startswith(inside + os.sep)
        if not is_inside or not re.fullmatch(rf"{re.escape(OURS + token)}-\d+{UNFINISHED}", beside):
            raise ValueError(f"{name!r} points outside its folder.")
    return moves


@contextlib.contextmanager
def _folders_made(wanted: list[Path]) -> Iterator[None]:
    """Create folders, and remove those that were created if the block fails."""
    made: list[Path] = []
    try:
        for folder in wanted:
            missing = [one for one in (folder, *folder.parents) if not one.exists()]
            with naming(folder):
                folder.mkdir(parents=True, exist_ok=True)
            made += reversed(missing)
        yield
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()  # stays if there is something in it
        raise


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, if the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
