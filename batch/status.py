"""How far the processes of a team are: each says so in a file of its own, and the first one reads them all."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from semantic_edit.batch.team import Team
from semantic_edit.disk.claims import OURS
from semantic_edit.disk.reading import read_object

BEAT = 2.0  # seconds between two signs of life
PATIENCE = 120.0  # seconds without one after which a process counts as dead
TOLD_EVERY = 10.0  # seconds


@dataclass
class Status:
    """How far a process is.

    total: The rows that it knows of so far.
    done: The results that are whole; `before` of these were there at its start.
    bad: The rows that it left out.
    """

    token: str = ""
    total: int = 0
    done: int = 0
    before: int = 0
    bad: int = 0
    beat: int = 0
    finished: bool = False


class Watch:
    """Tells how far this process is, and, in the first process, how far all of them are.

    Args:
        folder: That all processes work in.
        team: The processes.
        say: Called with lines of progress, in the first process.
    """

    def __init__(self, folder: Path, team: Team, say: Callable[[str], None]) -> None:
        self.folder, self.team, self.say = folder, team, say
        self.own = Status(token=team.token)
        self._started = time.monotonic()
        self._seen: dict[int, tuple[Status | None, float]] = {}
        self._ended = threading.Event()

    @contextlib.contextmanager
    def beating(self) -> Iterator[Watch]:
        """For the block, give signs of life, and lines of progress."""
        thread = threading.Thread(target=self._beat, daemon=True)
        self._write()
        thread.start()
        try:
            yield self
            self.own.finished = True
        finally:
            self._ended.set()
            thread.join()
            self._write()

    def all(self) -> list[Status | None]:
        """How far each process is, as far as that is known."""
        return [
            self.own if index == self.team.index else self._read(index) for index in range(self.team.size)
        ]

    def wait(self, patience: float = PATIENCE) -> list[Status]:
        """Wait until every process has finished, and return how far each is.

        Args:
            patience: Seconds without a sign of life after which a process counts as dead.

        Raises:
            TimeoutError: Naming the processes that died.
        """
        told = time.monotonic()
        while True:
            everyone = self.all()
            left = [index for index, one in enumerate(everyone) if one is None or not one.finished]
            left = [index for index in left if index != self.team.index]
            if not left:
                break
            now = time.monotonic()
            if silent := [index for index in left if now - self._seen[index][1] > patience]:
                raise TimeoutError(
                    f"process {', '.join(map(str, silent))} has given no sign of life for {patience:.0f} seconds. "
                    "Start the same command again: it does what is missing"
                )
            if now - told >= TOLD_EVERY:
                self.say(self.line())
                told = now
            time.sleep(min(BEAT, patience) / 4)
        for path in self.folder.glob(f"{OURS}status-*"):  # those of larger teams that died too
            path.unlink(missing_ok=True)
        return [one for one in everyone if one is not None]

    def line(self) -> str:
        """How far all processes are together, at what rate, and when they will have finished."""
        known = [one for one in self.all() if one is not None]
        total, done, before, bad = (
            sum(getattr(one, name) for one in known) for name in ("total", "done", "before", "bad")
        )
        seconds = time.monotonic() - self._started
        rate = (done - before) / seconds
        left = total - done - bad
        text = f"{done} of {total} rows" + (f", {bad} left out" if bad else "")
        if rate > 0 and left > 0:
            ends = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + left / rate))
            text += f", {rate:.3g} rows a second, {spoken_time(left / rate)} left, until {ends}"
        if self.team.size > 1:
            text += f", {len(known)} of {self.team.size} processes"
        return text

    def _beat(self) -> None:
        told = time.monotonic()
        while not self._ended.wait(BEAT):
            self.own.beat += 1
            self._write()
            if self.team.leads and time.monotonic() - told >= TOLD_EVERY:
                self.say(self.line())
                told = time.monotonic()

    def _path(self, index: int) -> Path:
        return self.folder / f"{OURS}status-{index}.json"

    def _write(self) -> None:
        if self.team.size == 1:
            return
        path = self._path(self.team.index)
        draft = path.with_suffix(".draft")
        with contextlib.suppress(OSError):  # the disk may be full; the work itself will say so
            draft.write_text(json.dumps(asdict(self.own)))
            os.replace(draft, path)

    def _read(self, index: int) -> Status | None:
        """What another process last said, or `None` if it has said nothing since this start."""
        status = None
        with contextlib.suppress(OSError, ValueError, TypeError):
            told = Status(**read_object(self._path(index)))
            status = told if told.token == self.team.token else None
        before = self._seen.get(index, (None, self._started))
        if status != before[0]:
            self._seen[index] = (status, time.monotonic())
        else:
            self._seen[index] = before
        return status


def spoken_time(seconds: float) -> str:
    """A duration as people say it."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
