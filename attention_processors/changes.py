"""Give modules other attributes for a while, and put back what was there, wherever the block is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

_ABSENT = object()


@dataclass(eq=False)
class _Replaced:
    """hidden: What comes back when `value` goes."""

    value: Any
    hidden: Any


# for each module and name what hides what, the latest last
_PILES: WeakKeyDictionary[torch.nn.Module, dict[str, list[_Replaced]]] = WeakKeyDictionary()


class Changes:
    """Changes of modules that are undone when the block ends, whichever of several such blocks ends first.

    An interrupt may come at almost any bytecode, the first of an `__exit__` among them. So each way back is noted
    before its change, and may be taken at any time and again. Where `changes()` are made within a block of `Changes`,
    both take it.
    """

    def __init__(self) -> None:
        self._ways_back: list[Callable[[], None]] = []

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: Any) -> None:
        self._undo()

    @contextmanager
    def changes(self) -> Iterator[None]:
        """Undo at the block's end what is changed in it."""
        before = len(self._ways_back)
        try:
            yield
        finally:
            self._undo(before)

    def replace(self, module: torch.nn.Module, name: str, value: Any) -> None:
        """Give a module an attribute of its own, which hides the one that it has."""
        attributes = vars(module)
        pile = _PILES.setdefault(module, {}).setdefault(name, [])
        replaced = _Replaced(value, attributes.get(name, _ABSENT))

        def way_back() -> None:
            if replaced not in pile:
                return
            above = pile[pile.index(replaced) + 1 :]
            if above:
                above[0].hidden = replaced.hidden
            elif attributes.get(name, _ABSENT) is value:  # else somebody outside changed it since
                _put_back(attributes, name, replaced.hidden)
            pile.remove(replaced)

        self.undo_by(way_back)
        pile.append(replaced)
        attributes[name] = value

    def undo_by(self, way_back: Callable[[], None]) -> None:
        """Note how to undo a change that comes next; `way_back` may find it not made, or undone."""
        self._ways_back.append(way_back)

    def _undo(self, down_to: int = 0) -> None:
        while len(self._ways_back) > down_to:
            self._ways_back[-1]()
            self._ways_back.pop()


def _put_back(attributes: dict[str, Any], name: str, value: Any) -> None:
    if value is _ABSENT:
        del attributes[name]
    else:
        attributes[name] = value
