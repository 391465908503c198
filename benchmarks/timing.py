"""Time contenders in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch


def synchronize() -> None:
    """Wait for the GPU, if there is one in use."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], calls: int = 1) -> float:
    """The seconds of one call, averaged over several in a row."""
    synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return (time.perf_counter() - started) / calls


def take_turns(
    contenders: Mapping[str, Callable[[], object]], repeats: int, calls: int = 1
) -> dict[str, list[float]]:
    """The seconds of each contender's call in each of several rounds."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            taken[name].append(seconds_of(run, calls))
    return taken


def spread(seconds: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):.{digits}f} ({min(seconds):.{digits}f} to {max(seconds):.{digits}f})"


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """Ratios round by round, in which the machine's other load cancels."""
    return [one / other for one, other in zip(slower, faster, strict=True)]
