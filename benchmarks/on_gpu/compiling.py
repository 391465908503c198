"""What `torch.compile` adds: the repeated blocks alone, under CUDA graphs, then the whole UNet with graphs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.diffedit_speed import edit_here
from benchmarks.inside import editor_of
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.evaluations import BATCHES, evaluation
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import seconds_of
from semantic_edit.pipelines.graphs import cuda_graphs


def compiling(bench: Bench) -> Iterator[Figure]:
    """Of a UNet of its own, channels last."""
    if not bench.on_gpu:
        return
    pipe = bench.opened("float16")
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.unet.compile_repeated_blocks(fullgraph=True, dynamic=False)
    own = Bench(bench.device, bench.quick)
    own.__dict__["pipe"] = pipe
    yield from timed(own, "repeated blocks", graphs=True)
    pipe.unet = torch.compile(bench.pipe.unet, mode="reduce-overhead", dynamic=False)
    yield from timed(own, "whole UNet, reduce-overhead", graphs=False)


def timed(bench: Bench, name: str, graphs: bool) -> Iterator[Figure]:
    """One evaluation of each batch, then whole edits."""
    editor = editor_of(bench.pipe)
    with cuda_graphs(editor.unet) if graphs else torch.no_grad():
        for batch in BATCHES:
            run: Any = evaluation(bench, batch)
            yield Figure(f"{name}, batch {batch}: first evaluation", seconds_of(run), "s")
            run()
            taken = [seconds_of(run, 10) for _ in range(bench.repeats)]
            yield figure(f"{name}, batch {batch}", taken, "ms", 1000)
        for preset, settings in bench.presets.items():
            edit = partial(edit_here, editor, bench.task(), settings)
            edit()
            yield figure(f"{name}: {preset}", [seconds_of(edit) for _ in range(bench.repeats)])
