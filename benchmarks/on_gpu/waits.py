"""How often an edit waits for the GPU: at every place, and for each further step of the loop."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.diffedit_speed import Settings, edit_here
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure


def places_of_waits(run: Callable[[], object]) -> Counter[str]:
    """How often each line of Python waits for the GPU in a run, as reported by PyTorch."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = (
        f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno}"
        for one in caught
        if "synchronizing CUDA operation" in str(one.message)
    )
    return Counter(places)


def waits(bench: Bench) -> Iterator[Figure]:
    """Compare DiffEdit with few steps and with more."""
    if not bench.on_gpu:
        return
    few, many = (
        partial(edit_here, bench.editor, bench.task(), Settings(steps, maps))
        for steps, maps in ((10, 5), (20, 5))
    )
    few()
    first, second = places_of_waits(few), places_of_waits(many)
    steps = 2 * 8  # up and down
    yield Figure("waits for each further step", (second.total() - first.total()) / steps, "", at_most=0)
    yield Figure("waits of one edit", second.total(), "")
    for place, count in second.most_common(15):
        yield Figure(f"at {place}", count, "")
