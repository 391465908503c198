"""Numbers that callers pass, checked by the same rules as the contents of files."""

from __future__ import annotations

import numbers
from typing import Any

from semantic_edit.disk.reading import Rule, shortened


def plain_number(value: Any) -> Any:
    """A real number of any type, such as a numpy number or a fraction, as an int or float; other values unchanged."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    except OverflowError:  # a fraction larger than any float
        return value


def read_number(name: str, value: Any, rule: Rule, why: str = "") -> Any:
    """Check a numeric argument, and convert it to an int or float.

    Args:
        name: The argument's name.
        value: Its value.
        rule: What it must satisfy.
        why: A further sentence for the error.

    Returns:
        The number, or another value that the rule allows, unchanged.

    Raises:
        ValueError: Naming the argument, what it must be, and what it is.
    """
    number = plain_number(value)
    is_right, meaning = rule
    if not is_right(number):
        raise ValueError(f"`{name}` must be {meaning}, got {shortened(value)}. {why}".rstrip())
    return number
