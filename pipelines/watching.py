"""A pipeline whose progress is shown elsewhere than on a terminal, and that can be stopped at its next step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

Show = Callable[[int, int, str], object]
"""`show(done, total, text)`."""


class StoppedOnRequest(Exception):
    """A call was stopped; its pipeline's components are as they were before."""


@dataclass
class ShownBar:
    """As much of tqdm as the pipelines need. Each step tells how far a stage is, or ends the call if asked to.

    Raises:
        StoppedOnRequest: At every step once `stop` is set.
    """

    name: str
    total: int
    show: Show
    stop: Event

    def __post_init__(self) -> None:
        self.done, self.note, self.began = 0, "", time.monotonic()
        self.update(0)

    def __enter__(self) -> ShownBar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set_postfix(self, **noted: object) -> None:
        """Show values behind the name of the stage."""
        self.note = "".join(f", {name} {value}" for name, value in noted.items())

    def update(self, steps: int = 1) -> None:
        """Count steps as done."""
        if self.stop.is_set():
            raise StoppedOnRequest
        self.done += steps
        passed = time.monotonic() - self.began
        left = passed / self.done * (self.total - self.done) if self.done else 0.0
        estimate = f", about {left:.0f} s left" if left >= 1 else ""
        self.show(self.done, self.total, f"{self.name}, {self.done} of {self.total}{self.note}{estimate}")


def watched_pipeline(pipe: Any, show: Show, stop: Event) -> Any:
    """A pipeline of the same models, whose calls show their progress and can be stopped from another thread.

    Args:
        pipe: The pipeline; it is not changed.
        show: Called at every step of every stage, with the number of steps done, their total and a text.
        stop: Set to end a call with [`StoppedOnRequest`], at its next step.
    """
    kind = type(pipe)

    def progress_bar(self: Any, iterable: Any = None, total: int = 0) -> ShownBar:
        return ShownBar(self._progress_bar_config["desc"], total, show, stop)

    mine = copy.copy(pipe)
    mine.__class__ = type(kind.__name__, (kind,), {"progress_bar": progress_bar})
    return mine
