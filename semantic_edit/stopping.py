"""SIGTERM and SIGHUP end a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REASONS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; like Ctrl-C, this is not caught as an error."""

    def __init__(self, number: int) -> None:
        self.reason = REASONS[signal.Signals(number).name]
        self.code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """In the block, raise [`Stopped`] if a signal would end the process; signals that are ignored stay ignored."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # only this one may set handlers
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no closed terminals
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)
