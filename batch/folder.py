"""The folder of a batch: what it was started with, who works in it, and what is there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from semantic_edit.batch.kept import LEFT_OUT, SETTINGS
from semantic_edit.batch.ledger import Ledger, read_ledger
from semantic_edit.batch.results import RESULTS, ResultsFile, all_files
from semantic_edit.batch.stores import FolderStore, ShardStore, Store, mend_shards, quiet_shards
from semantic_edit.batch.team import Team
from semantic_edit.disk.claims import held_folder
from semantic_edit.disk.fitting import listed_differences
from semantic_edit.disk.reading import read_object
from semantic_edit.disk.writing import settle, write_file

FEW = 10_000
"""More rows than this go into shards, unless their user chooses."""


@contextlib.contextmanager
def working_in(folder: Path, team: Team) -> Iterator[None]:
    """Make a folder and reserve it for this process of a team during the block; without results, it is removed again.

    Raises:
        ValueError: If another start works in it; names the process.
    """
    place = Path(os.path.realpath(folder))  # a link may point to a folder that is still to be made
    is_new = not place.exists()
    place.mkdir(exist_ok=True)
    try:
        with held_folder(place, team.index, team.size):
            settle(place)
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # there is something in it
                place.rmdir()


def check_settings(folder: Path, settings: Mapping[str, Any], shards: bool | None, rows: int | None) -> bool:
    """Write down what a batch is started with, or raise unless it is what it was started with before.

    All processes of a start say the same, and the first that comes writes it, before it writes any result.

    Args:
        folder: Of the batch.
        settings: In JSON values.
        shards: Whether pictures are to go into shards; `None` for what the folder was started with or, in a new one,
            for shards if there are many rows.
        rows: Their number, or `None` if nobody knows it.

    Returns:
        Whether pictures go into shards.

    Raises:
        ValueError: Listing each difference, or if there are results that nobody knows the settings of.
    """
    results = all_files(folder / RESULTS)  # looked for first: another process may start meanwhile
    path, kept = folder / SETTINGS, dict[str, Any]()
    with contextlib.suppress(FileNotFoundError):
        kept = read_object(path)
    if shards is None:
        shards = kept.get("shards")
    if not isinstance(shards, bool):
        shards = rows is None or rows > FEW
    now = json.loads(json.dumps({**settings, "shards": shards}))
    if kept:
        names = sorted({*kept, *now})
        if listed := listed_differences(
            "that one", [(name, kept.get(name), now.get(name)) for name in names]
        ):
            raise ValueError(
                f"'{folder}' holds a batch that was started otherwise ({listed}). Name another folder, or "
                "start it as before."
            )
    elif results:
        raise ValueError(
            f"'{folder}' holds results, but no {SETTINGS} that says what they were made with. Put it back, or name "
            "another folder."
        )
    else:
        write_file(path, json.dumps(now, indent=1).encode())
    return shards


def open_store(folder: Path, team: Team, sharded: bool) -> tuple[Ledger, Store]:
    """What is done already, and where the pictures of a process go.

    Args:
        folder: Of the batch.
        team: The first process mends shards that processes left behind that died.
        sharded: Whether into shards.

    Raises:
        ValueError: If a line of a results file is no result.
    """
    quiet = quiet_shards(folder) if team.leads else []
    ledger = read_ledger(folder)  # only then: another process may have been filling one of them
    mend_shards(quiet, ledger)
    return ledger, ShardStore(folder, team.index, ledger) if sharded else FolderStore(folder)


def open_left_out(folder: Path, team: Team) -> ResultsFile:
    """The file for rows that this process leaves out; those of earlier starts are forgotten, as all are tried again.

    Args:
        folder: Of the batch.
        team: Each process removes its own part of the earlier files.
    """
    for number, path in all_files(folder / LEFT_OUT).items():
        if number % team.size == team.index:
            path.unlink()
    return ResultsFile(folder / LEFT_OUT, team.index)
