"""Warnings, heard by the thread that they are about: Python's own recording mixes those of all threads."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_here = threading.local()
_WHOSE = re.compile(r" (?:of|for) edits \[([\d, ]+)\]")


@contextmanager
def listening() -> Iterator[None]:
    """For the block, bring each warning to the thread that raises it; where nobody hears it, it is shown as usual."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, *where: object, **others: object) -> None:
            if (heard := getattr(_here, "heard", None)) is not None:
                heard.append(str(message))
            else:
                shown(message, *where, **others)  # type: ignore[arg-type]

        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """The warnings that this thread raises in the block, within one of `listening`."""
    _here.heard = heard = list[str]()
    try:
        yield heard
    finally:
        del _here.heard


def warnings_of(heard: Sequence[str], edit: int) -> list[str]:
    """Those of a call's warnings that are about one of its edits, or about none in particular."""
    own = []
    for text in dict.fromkeys(heard):
        whose = _WHOSE.search(text)
        if whose is None or edit in map(int, whose[1].split(",")):
            own.append(_WHOSE.sub("", text))
    return own
