"""Where the time of an edit goes: which part of it the GPU spends inside the networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from benchmarks.diffedit_speed import edit_here
from benchmarks.inside import Edit, around, modules_of, rest, seconds_inside
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import synchronize
from semantic_edit.pipelines.graphs import cuda_graphs


def shares(bench: Bench) -> Iterator[Figure]:
    """Measure DiffEdit with both presets, plainly and with CUDA graphs."""
    for name, settings in bench.presets.items():
        run = partial(edit_here, bench.editor, bench.task(), settings)
        edit = Edit(name, run, modules_of(bench.editor))
        run()
        yield from inside_of(bench, edit, f"{name}, eager")
        with cuda_graphs(bench.editor.unet):
            run()
            yield from inside_of(bench, edit, f"{name}, graphs")
            if bench.on_gpu:
                busy = [busy_share(edit) for _ in range(bench.repeats)]
                yield figure(
                    f"{name}, graphs: between events around the networks", busy, "%", 100, at_least=95
                )
            if name == "default":
                yield from rest_of(edit)


def inside_of(bench: Bench, edit: Edit, name: str) -> Iterator[Figure]:
    """Measure by hooks around the networks' calls that wait for the GPU."""
    measured = [seconds_inside(edit) for _ in range(bench.repeats)]
    inside = [sum(parts.values()) / whole for whole, parts in measured]
    yield figure(f"{name}: inside the networks, waiting for each call", inside, "%", 100, at_least=95)
    for part in ("UNet", "VAE", "text encoder"):
        yield figure(f"{name}: {part}", [parts[part] for _, parts in measured], "ms", 1000)
    yield figure(f"{name}: outside", [whole - sum(parts.values()) for whole, parts in measured], "ms", 1000)


def rest_of(edit: Edit) -> Iterator[Figure]:
    """List what Python does outside the networks, the longest first, under a profiler that slows it down."""
    for line in rest(edit, top=12):
        function, calls, milliseconds = (cell.strip() for cell in line.strip("| ").split("|"))
        yield Figure(f"{edit.what}, graphs, profiled: {function}, {calls} calls", float(milliseconds), "ms")


def busy_share(edit: Edit) -> float:
    """The fraction of one run between events around the networks' calls, without waiting for the GPU."""
    marks: list[Any] = []

    def mark() -> None:
        marks.append(torch.cuda.Event(enable_timing=True))
        marks[-1].record()

    with ExitStack() as stack:
        for modules in edit.modules.values():
            for module in modules:
                stack.enter_context(around(module, mark, mark))
        synchronize()
        mark()
        edit.run()
        mark()
        synchronize()
    first, *inner, last = marks
    inside = sum(start.elapsed_time(end) for start, end in zip(inner[::2], inner[1::2], strict=True))
    return inside / first.elapsed_time(last)
