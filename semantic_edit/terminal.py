"""Messages on the terminal: one line each, without control characters, in terms of the command line's options."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TextIO

_NAME = re.compile(r"`([a-z_0-9]+)(?:=([^`]*))?`")
_PARTS = re.compile(
    "unet|transformer|vae|scheduler|image_encoder|feature_extractor|(text_encoder|tokenizer)(_[23])?"
)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_TWICE = re.compile(r"(--[a-z-]+)(?: x | and |, )\1(?![a-z-])")


def say(line: object) -> None:
    """Print one line on stdout."""
    _print(str(line), sys.stdout)


def complain(kind: str, reason: object) -> None:
    """Print an "error" or a "warning" as one line on stderr."""
    _print(f"semantic-edit: {kind}: {' '.join(str(reason).split())}", sys.stderr)


def visible(text: str) -> str:
    """Escape whatever a terminal would not show: file names may contain anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def in_typed_words(text: str, words: Mapping[str, str]) -> str:
    """Replace the pipelines' arguments in a message by the command line's options, with the numbers to pass.

    Args:
        words: From an argument's name to the option.
    """

    def typed(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in words:
            return name if _PARTS.fullmatch(name) and value is None else found[0]
        return f"{words[name]} {value}" if _NUMBER.fullmatch(value or "") else words[name]

    return _TWICE.sub(r"\1", _NAME.sub(typed, text))


def _print(line: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    print(visible(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
