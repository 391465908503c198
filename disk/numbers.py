"""Numbers that anybody may pass, held to the rules that files are held to."""

from __future__ import annotations

import numbers
from typing import Any

from semantic_edit.disk.reading import Rule, shortened


def plain_number(value: Any) -> Any:
    """A real number of any type, such as numpy's or a fraction, as Python's own; what is none stays what it is."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    except OverflowError:  # a fraction larger than any float
        return value


def read_number(name: str, value: Any, rule: Rule, why: str = "") -> Any:
    """An argument as Python's own number.

    Args:
        name: The argument's.
        rule: What it must be.
        why: A sentence more for the error.

    Raises:
        ValueError: Naming the argument, what it must be, and what it is.
    """
    number = plain_number(value)
    is_right, meaning = rule
    if not is_right(number):
        raise ValueError(f"`{name}` must be {meaning}, got {shortened(value)}. {why}".rstrip())
    return number
