"""Short representations of objects that hold tensors and images: shapes, on a few lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

SHOWN = 3  # entries of a list


class Summarised:
    """A dataclass, declared with `repr=False`, with a short `repr` whatever it holds."""

    def __repr__(self) -> str:
        fields = ((one.name, getattr(self, one.name)) for one in dataclasses.fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{name}={summary(value)}' for name, value in fields)})"


def summary(value: Any) -> str:
    """A value in short: tensors and arrays by shape and dtype, images by mode and size, lists by first entries."""
    if isinstance(value, Summarised):
        return repr(value)
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{kind} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if hasattr(value, "size") and hasattr(value, "mode"):
        return f"{value.mode} picture {value.size[0]}x{value.size[1]}"
    if isinstance(value, Mapping):
        entries = [f"{key!r}: {summary(entry)}" for key, entry in list(value.items())[:SHOWN]]
        return f"{{{_shortened(entries, len(value))}}}"
    if isinstance(value, (list, tuple)):
        shown = _shortened([summary(entry) for entry in value[:SHOWN]], len(value))
        return f"[{shown}]" if isinstance(value, list) else f"({shown})"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _shortened(entries: list[str], count: int) -> str:
    more = [f"… {count} in all"] if count > len(entries) else []
    return ", ".join([*entries, *more])
