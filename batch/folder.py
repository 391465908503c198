"""The folder of a batch: what it was started with, who works in it, and what is there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from semantic_edit.batch.ledger import Ledger
from semantic_edit.batch.stores import SHARDS, FolderStore, ShardStore, Store, mend_shards
from semantic_edit.batch.team import Team
from semantic_edit.disk.claims import held_folder
from semantic_edit.disk.fitting import listed_differences
from semantic_edit.disk.reading import read_object
from semantic_edit.disk.writing import settle, write_file

SETTINGS = "batch.json"
FEW = 10_000
"""More rows than this go into shards, unless their user chooses."""


@contextlib.contextmanager
def working_in(folder: Path, team: Team) -> Iterator[None]:
    """Make a folder and reserve it for this process of a team during the block; without results, it is removed again.

    Raises:
        ValueError: If another start works in it; names the process.
    """
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        with held_folder(folder, team.index):
            settle(folder)
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # there is something in it
                folder.rmdir()


def check_settings(folder: Path, team: Team, settings: Mapping[str, Any]) -> None:
    """Write down what a batch is started with, or raise unless it is what it was started with before.

    Args:
        folder: Of the batch.
        team: Only its first process writes.
        settings: In JSON values.

    Raises:
        ValueError: Listing each difference.
    """
    path, now = folder / SETTINGS, json.loads(json.dumps(settings))
    try:
        kept = read_object(path)
    except FileNotFoundError:
        if team.leads:
            write_file(path, json.dumps(now, indent=1).encode())
        return
    names = sorted({*kept, *now})
    if listed := listed_differences("that one", [(name, kept.get(name), now.get(name)) for name in names]):
        raise ValueError(
            f"'{folder}' holds a batch that was started otherwise ({listed}). Name another folder, or "
            "start it as before."
        )


def open_store(folder: Path, team: Team, ledger: Ledger, sharded: bool) -> Store:
    """Where the pictures of a process go.

    Args:
        folder: Of the batch.
        team: The first process mends shards that processes left behind that died.
        ledger: What is done already.
        sharded: Whether into shards.
    """
    if not sharded:
        return FolderStore(folder)
    if team.leads:
        mend_shards(folder, ledger)
    return ShardStore(folder, team.index, ledger)


def goes_into_shards(folder: Path, rows: int | None) -> bool:
    """Whether pictures go into shards: if some do already, if there are many, or if nobody knows how many.

    Args:
        folder: Of the batch.
        rows: Their number, or `None`.
    """
    return (folder / SHARDS).is_dir() or rows is None or rows > FEW
