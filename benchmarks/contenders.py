"""Contenders: ways to do the same thing, with the evaluations and the time that each takes, and how two compare."""

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
    """In the block, collect the number of samples in each evaluation of the UNet."""
    batches: list[int] = []
    hook = unet.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape[0]))
    try:
        yield batches
    finally:
        hook.remove()


@dataclass
class Contender:
    """One way to do something.

    evaluations: Samples that the UNet evaluates in a run.
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
    """Warm up each contender by a run that counts its evaluations, then time them in turns."""
    for contender in contenders.values():
        with counted(unet) as batches:
            contender.run()
        contender.evaluations = sum(batches)
    taken = take_turns({name: one.run for name, one in contenders.items()}, repeats)
    for name, contender in contenders.items():
        contender.seconds = taken[name]


def line(what: str, here: Contender, against: Contender) -> str:
    """A line of the table under `HEADER`."""
    gain = ratios(against.seconds, here.seconds)
    return f"| {what} | {here.cell} | {against.cell} | **{spread(gain)}** |"


def duration(seconds: list[float]) -> str:
    """Median and range, in milliseconds if that is easier to read."""
    if statistics.median(seconds) < 0.1:
        return f"{spread([1000 * one for one in seconds])} ms"
    return f"{spread(seconds)} s"
