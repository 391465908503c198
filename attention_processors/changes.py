"""Replace attributes of modules for a while, and put the old ones back wherever the block is interrupted."""

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
    """hidden: What comes back when `value` is removed."""

    value: Any
    hidden: Any


# for each module and attribute name, which value hides which, the latest last
_PILES: WeakKeyDictionary[torch.nn.Module, dict[str, list[_Replaced]]] = WeakKeyDictionary()


class Changes:
    """Changes to modules that are undone when the block ends; several such blocks may end in any order.

    An interrupt may come at almost any bytecode, even at the first of an `__exit__`. So the way to undo a change is
    recorded before the change is made, and may be taken at any time and more than once. Within a block of `Changes`, a
    block of `changes()` undoes its own changes, and the outer block undoes whatever is left.
    """

    def __init__(self) -> None:
        self._ways_back: list[Callable[[], None]] = []

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: Any) -> None:
        self._undo()

    @contextmanager
    def changes(self) -> Iterator[None]:
        """Undo at the end of the block whatever was changed in it."""
        before = len(self._ways_back)
        try:
            yield
        finally:
            self._undo(before)

    def replace(self, module: torch.nn.Module, name: str, value: Any) -> None:
        """Set an attribute of a module, hiding the one that it has."""
        attributes = vars(module)
        pile = _PILES.setdefault(module, {}).setdefault(name, [])
        replaced = _Replaced(value, attributes.get(name, _ABSENT))

        def way_back() -> None:
            if replaced not in pile:
                return
            above = pile[pile.index(replaced) + 1 :]
            if above:
                above[0].hidden = replaced.hidden
            elif attributes.get(name, _ABSENT) is value:  # otherwise somebody else has changed it since
                _put_back(attributes, name, replaced.hidden)
            pile.remove(replaced)

        self.undo_by(way_back)
        pile.append(replaced)
        attributes[name] = value

    def undo_by(self, way_back: Callable[[], None]) -> None:
        """Record how to undo the next change; `way_back` must also work if that was never made or is already undone."""
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
