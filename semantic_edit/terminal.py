"""Messages on the terminal: one line each, without control characters."""

from __future__ import annotations

import sys
from typing import TextIO


def say(line: object) -> None:
    """Print one line on stdout."""
    _print(str(line), sys.stdout)


def complain(kind: str, reason: object) -> None:
    """Print an "error" or a "warning" as one line on stderr."""
    _print(f"semantic-edit: {kind}: {' '.join(str(reason).split())}", sys.stderr)


def visible(text: str) -> str:
    """Escape whatever a terminal would not show: file names may contain anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _print(line: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    print(visible(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
