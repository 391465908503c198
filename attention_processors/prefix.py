"""Evaluate a UNet repeatedly with other values: whatever comes before its first cross attention is computed once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, StandIn
from semantic_edit.attention_processors.layers import attention_layers


class Prefix:
    """What a UNet computes before its first cross attention, which is where values come in.

    Between `begin` and the first cross attention, the UNet's modules return what they returned in the evaluation
    before, provided that it began with the same inputs; at all other times they compute.
    """

    def __init__(self) -> None:
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._outputs: list[Any] = []
        self._calls: int | None = None  # so far in this evaluation; `None` after the prefix

    def begin(self, *inputs: torch.Tensor) -> None:
        """Announce an evaluation; `inputs` are everything that its prefix depends on."""
        same = len(inputs) == len(self._inputs) and all(map(torch.equal, inputs, self._inputs))
        if not same:
            self._inputs, self._outputs = inputs, []
        self._calls = 0

    def end(self) -> None:
        """Announce that cross attention has been reached."""
        self._calls = None

    def output(self, forward: Any, *args: Any, **kwargs: Any) -> Any:
        """The result of `forward` for these arguments, from memory where possible."""
        if self._calls is None:
            return forward(*args, **kwargs)
        if self._calls == len(self._outputs):
            self._outputs.append(forward(*args, **kwargs))
        self._calls += 1
        return self._outputs[self._calls - 1]


@contextmanager
def remembered_prefix(borrowed: BorrowedNetwork) -> Iterator[Prefix]:
    """Let a borrowed UNet's modules reuse their outputs during the block, as the yielded prefix directs.

    Results keep their bits. During the block the UNet's weights must not change, nor must its text where anything other
    than cross attention reads it.
    """
    prefix, unet = Prefix(), borrowed.network
    crossings = {unet.get_submodule(layer.name) for layer in attention_layers(unet) if layer.is_cross}
    with borrowed.changes():
        for module in _parts_without(unet, crossings):
            borrowed.replace(module, "forward", _Remembering(borrowed, module.forward, prefix))
        for module in crossings:
            borrowed.replace(module, "forward", _Crossing(borrowed, module.forward, prefix))
        yield prefix


def _parts_without(
    module: torch.nn.Module, crossings: Collection[torch.nn.Module]
) -> Iterator[torch.nn.Module]:
    """The largest callable modules inside `module` that contain none of `crossings`."""
    for part in module.children():
        if part in crossings:
            continue
        is_list = isinstance(part, torch.nn.ModuleList)
        if is_list or any(inner in crossings for inner in part.modules()):
            yield from _parts_without(part, crossings)
        else:
            yield part


class _OnTheWay(StandIn):
    """The `forward` of a module that a UNet's prefix passes through."""

    def __init__(self, borrowed: BorrowedNetwork, usual: Callable[..., Any], prefix: Prefix) -> None:
        super().__init__(borrowed, usual)
        self.prefix = prefix


class _Remembering(_OnTheWay):
    """The `forward` of a part without cross attention."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.borrowed.acts:
            return self.usual(*args, **kwargs)
        return self.prefix.output(self.usual, *args, **kwargs)


class _Crossing(_OnTheWay):
    """The `forward` of cross attention."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.borrowed.acts:
            self.prefix.end()
        return self.usual(*args, **kwargs)
