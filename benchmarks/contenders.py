"""Ways to do one thing, what each took of the UNet and of time, and the line of a table that sets two side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from benchmarks.timing import ratios, spread, take_turns

HEADER = "| what | here | against | times (range over rounds) |\n| --- | --- | --- | --- |"


@contextmanager
def counted(unet: torch.nn.Module) -> Iterator[list[int]]:
    """Collect how many samples each call of the UNet evaluates."""
    batches: list[int] = []
    hook = unet.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape[0]))
    try:
        yield batches
    finally:
        hook.remove()


@dataclass
class Contender:
    """One way to do it.

    evaluations: Samples that went through the UNet in a run.
    seconds: Of each round.
    """

    run: Callable[[], object]
    evaluations: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def cell(self) -> str:
        """A table's."""
        work = f", {self.evaluations} evaluations" if self.evaluations else ""
        return duration(self.seconds) + work


def race(contenders: Mapping[str, Contender], unet: torch.nn.Module, repeats: int) -> None:
    """Warm each up by a run that counts its evaluations, then let them take turns."""
    for contender in contenders.values():
        with counted(unet) as batches:
            contender.run()
        contender.evaluations = sum(batches)
    taken = take_turns({name: one.run for name, one in contenders.items()}, repeats)
    for name, contender in contenders.items():
        contender.seconds = taken[name]


def line(what: str, here: Contender, against: Contender) -> str:
    """Under `HEADER`."""
    gain = ratios(against.seconds, here.seconds)
    return f"| {what} | {here.cell} | {against.cell} | **{spread(gain)}** |"


def duration(seconds: list[float]) -> str:
    """Median and range, in milliseconds where that reads better."""
    if statistics.median(seconds) < 0.1:
        return f"{spread([1000 * one for one in seconds])} ms"
    return f"{spread(seconds)} s"
