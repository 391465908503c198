"""What users are told: warnings that point to their own line of code, and sentences in the words that they typed."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

OF_CALLS = ("torch.utils._contextlib", "contextlib", "diffusers.configuration_utils")
"""Modules whose wrappers stand between this package's functions."""


def warn_caller(message: str) -> None:
    """Warn at the first line on the stack that is not this package's own."""
    own = __name__.partition(".")[0]
    level, frame = 1, sys._getframe()
    while (outer := frame.f_back) is not None:
        name = str(outer.f_globals.get("__name__", ""))
        level, frame = level + 1, outer
        if name.partition(".")[0] != own and name not in OF_CALLS:
            break
    warnings.warn(message, stacklevel=level)


def show_warnings_of(filename: str, tell: Callable[[str], object]) -> None:
    """From here on, tell each warning that points to one file, every time, and leave all others as they are.

    Args:
        filename: The file that calls this package, where its warnings point to.
        tell: Called with the warning's text.
    """
    elsewhere = warnings.showwarning

    def show(message: Any, category: Any, place: str, *others: Any, **named: Any) -> None:
        if place == filename:
            tell(str(message))
        else:
            elsewhere(message, category, place, *others, **named)

    warnings.showwarning = show  # type: ignore[assignment]  # it takes what others take


_NAME = re.compile(r"`([a-z_0-9]+)(?:=([^`]*))?`")
_PARTS = re.compile(
    "unet|transformer|vae|scheduler|image_encoder|feature_extractor|(text_encoder|tokenizer)(_[23])?"
)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_TWICE = re.compile(r"(--[a-z-]+)(?: x | and |, )\1(?![a-z-])")
_ARTICLES = re.compile(r"\b([Aa]n?) the ")


def in_typed_words(text: str, words: Mapping[str, str]) -> str:
    """Replace the pipelines' arguments in a message by what a user sees of them: options, or labels of a page.

    Args:
        text: The message.
        words: From an argument's name to the option or label; numbers that are to be passed follow it.
    """

    def typed(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in words:
            return name if _PARTS.fullmatch(name) and value is None else found[0]
        return f"{words[name]} {value}" if _NUMBER.fullmatch(value or "") else words[name]

    return _ARTICLES.sub(r"\1 ", _TWICE.sub(r"\1", _NAME.sub(typed, text)))


def counted(number: int, thing: str) -> str:
    """A number of things, such as "1 row" or "2 rows"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def refuse_withheld(flags: Sequence[bool] | None, advice: str) -> None:
    """Raise if a safety checker has blackened any results.

    Args:
        flags: One for each result; `None` without a safety checker.
        advice: What to try.

    Raises:
        ValueError: Naming the results.
    """
    flags = flags or []
    if withheld := [str(index) for index, flag in enumerate(flags, start=1) if flag]:
        which = "the result" if len(flags) == 1 else f"the result of prompt {', '.join(withheld)}"
        raise ValueError(f"the model's safety checker withheld {which}; {advice}")
