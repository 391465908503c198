"""Files and folders that one process at a time works in; a claim ends with its process, however the process ends."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path

OURS = ".semantic-edit-"  # how the names of all files begin that are not meant to stay in a folder
HELD = f"{OURS}held.json"


@contextlib.contextmanager
def claimed(path: str | os.PathLike[str]) -> Iterator[bool]:
    """Claim a file for the duration of the block.

    Yields:
        Whether it could be claimed. It could not if it does not exist (any more), belongs to another user, is claimed
        already, or lies on a disk that does not support claims.
    """
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        yield False
        return
    try:
        is_own = not hasattr(os, "geteuid") or os.fstat(handle).st_uid == os.geteuid()
        yield is_own and claim(handle) is True and is_at(handle, path)
    finally:
        os.close(handle)


def claim(handle: int) -> bool | None:
    """Claim an open file until it is closed.

    Returns:
        Whether it could be claimed; `None` if the system does not support claims.
    """
    try:
        # written like this, or diffusers asks users who load this as a custom pipeline on Windows to install it
        import fcntl as posix
    except ImportError:
        return None
    try:
        posix.flock(handle, posix.LOCK_EX | posix.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_at(handle: int, path: str | os.PathLike[str]) -> bool:
    """Whether the file at a path is still the one that was opened."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def held_folder(folder: str | os.PathLike[str], member: int = 0, members: int = 1) -> Iterator[None]:
    """Reserve a folder for this process during the block.

    Args:
        folder: The folder.
        member: This process's number among those that work in it together, of which each reserves its own place.
        members: The number of those. A process with a higher number is of another team, and may not work there.

    Raises:
        ValueError: If another process has reserved it; names that process.
    """
    path = Path(folder) / (f"{OURS}held-{member}.json" if member else HELD)
    handle = _held(path)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        about = {"process": os.getpid(), "host": platform.node(), "since": since}
        os.truncate(handle, 0)
        os.write(handle, json.dumps(about).encode())
        _remove_larger(Path(folder), members)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _held(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        is_free = claim(handle) is not False
        if is_free and is_at(handle, path):  # otherwise its holder has just removed it
            return handle
        holder = "another process" if is_free else _holder(handle)
        os.close(handle)
        if not is_free:
            raise ValueError(
                f"{os.fspath(path.parent)!r} is in use by {holder}. Wait until that ends, or name another folder."
            )


def _remove_larger(folder: Path, members: int) -> None:
    """Remove what members of larger teams left behind; raise if one of them is still at work."""
    for path in folder.glob(f"{OURS}held-*.json"):
        number = re.fullmatch(r"([0-9]+)\.json", path.name.removeprefix(f"{OURS}held-"))
        if number and int(number[1]) >= members:
            handle = _held(path)
            path.unlink(missing_ok=True)
            os.close(handle)


def _holder(handle: int) -> str:
    try:
        about = json.loads(os.pread(handle, 1000, 0))
        return f"process {about['process']:d} on {about['host']}, since {about['since']}"
    except (ValueError, TypeError, KeyError):  # it has not written its name yet
        return "another process"
