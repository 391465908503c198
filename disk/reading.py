"""Read files that anyone may have written or damaged: whatever is wrong is reported in one sentence with the name."""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

MOST_JSON = 16 * 2**20  # bytes: more than any file of ours needs, and little enough to read
MOST_TEXT = 1_000_000  # characters

Rule = tuple[Callable[[Any], bool], str]
"""A test of a value, and what a valid value is, in words."""


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Raise unless there is a regular file; reading a pipe or a device might never end.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If there is something else.
    """
    mode = os.stat(path).st_mode
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{os.fspath(path)!r} is {kinds.get(stat.S_IFMT(mode), 'a device')}, and a file is needed."
        )


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming the file, if it is not JSON, does not contain an object, or is too large.
    """
    check_is_file(path)
    if os.path.getsize(path) > MOST_JSON:
        raise ValueError(
            f"{os.fspath(path)!r} is too large to be read as JSON: {os.path.getsize(path):,} bytes."
        )
    return parse_object(Path(path).read_bytes(), repr(os.fspath(path)))


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The object that a JSON text describes.

    Args:
        where: Where the text comes from, for the error.

    Raises:
        ValueError: If it is not JSON, or describes something else.
    """
    value = parse_json(text, where)
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object with names and values, got {shortened(value)}.")
    return value


def parse_json(
    text: str | bytes, where: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """The value that a JSON text describes.

    Args:
        where: Where the text comes from, for the error.
        pairs: Makes an object of its keys and values, or raises a ValueError; `None` takes the last of equal keys.

    Raises:
        ValueError: If it is malformed, naming line and column, or nested too deeply or too long for Python.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{where} is malformed JSON at {place}: {error.msg}.") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # not UTF-8, numbers with thousands of digits, endless nesting
        raise ValueError(f"{where} is JSON that cannot be read: {error}.") from None


def check_fields(fields: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> None:
    """Raise unless the fields are exactly those of the rules, and satisfy them.

    Args:
        fields: Values by name.
        rules: One for every field.
        where: Where the fields come from, for the error.

    Raises:
        ValueError: Naming the fields that are missing or unknown, or the first invalid one with what it must be.
    """
    missing, unknown = sorted(rules.keys() - fields.keys()), sorted(fields.keys() - rules.keys())
    if missing or unknown:
        raise ValueError(
            f"{where} lacks {', '.join(missing) or 'nothing'} and has unknown entries "
            f"{shortened(', '.join(unknown), quoted=False) or '(none)'}."
        )
    for name, (is_right, meaning) in rules.items():
        if not is_right(fields[name]):
            raise ValueError(f"{name!r} of {where} must be {meaning}, got {shortened(fields[name])}.")


def shortened(value: object, quoted: bool = True) -> str:
    """`value` as text of at most 60 characters, for an error; `quoted` as `repr` writes it."""
    try:
        text = repr(value) if quoted else str(value)
    except (RecursionError, ValueError):  # endless nesting, numbers with thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole_number(lowest: int, highest: int) -> Rule:
    """The rule for an integer from `lowest` to `highest`."""

    def is_right(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest

    return is_right, f"an integer from {lowest} to {highest}"


def real_number(
    lowest: float = -1e30, highest: float = 1e30, above: bool = False, below: bool = False
) -> Rule:
    """The rule for a finite number from `lowest` (excluded with `above`) to `highest` (excluded with `below`)."""

    def is_right(value: Any) -> bool:
        if not is_finite_number(value) or not lowest <= value <= highest:
            return False
        return not (above and value == lowest) and not (below and value == highest)

    if lowest == -1e30:
        return is_right, "a finite number"
    start, end = ("above" if above else "from"), (" and below" if below else " and up to" if above else " to")
    return is_right, f"a number {start} {lowest:g}{end} {highest:g}"


def is_finite_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is an int or a float, and neither infinite nor NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def plain_text(longest: int = MOST_TEXT) -> Rule:
    """The rule for text that any file can hold: not too long, and without unpaired surrogates."""

    def is_right(value: Any) -> bool:
        return isinstance(value, str) and len(value) <= longest and is_utf8(value)

    return is_right, f"text of at most {longest} characters"


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a value can name a file or folder: text or a path, not empty, without null characters."""
    name = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    return isinstance(name, str) and name != "" and "\0" not in name


def is_utf8(text: str) -> bool:
    """Whether text can be encoded as UTF-8, which unpaired surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_of(*values: str) -> Rule:
    """The rule for one of several texts."""
    return lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}"


def or_none(rule: Rule) -> Rule:
    """The rule for `None`, or what another rule allows."""
    is_right, meaning = rule
    return lambda value: value is None or is_right(value), f"{meaning}, or nothing"


def several(rule: Rule, fewest: int, most: int) -> Rule:
    """The rule for a list of `fewest` to `most` values that another rule allows."""
    is_right, meaning = rule

    def are_right(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and fewest <= len(value) <= most and all(map(is_right, value))

    count = str(fewest) if fewest == most else f"{fewest} to {most}"
    return are_right, f"a list of {count}, each {meaning}"


def record(**rules: Rule) -> Rule:
    """The rule for an object with exactly these entries, each with a rule of its own."""

    def is_right(value: Any) -> bool:
        return (
            isinstance(value, Mapping)
            and value.keys() == rules.keys()
            and all(is_entry(value[name]) for name, (is_entry, _) in rules.items())
        )

    return is_right, f"an object of {', '.join(f'{name}: {meaning}' for name, (_, meaning) in rules.items())}"


def rising(highest: int, are_whole: bool = True) -> Rule:
    """The rule for a list of increasing numbers from 0 to `highest`, integers by default."""
    is_entry, _ = whole_number(0, highest) if are_whole else real_number(0, highest)

    def are_right(value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or not all(map(is_entry, value)):
            return False
        return all(below < above for below, above in itertools.pairwise(value))

    return (
        are_right,
        f"increasing {'integers' if are_whole else 'numbers'} from 0 to {highest} (the least noisy first)",
    )
