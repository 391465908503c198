"""What `torch.compile` adds: the repeated blocks under CUDA graphs, then the whole UNet with graphs of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.diffedit_speed import edit_here
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.evaluations import BATCHES, evaluation
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import seconds_of
from semantic_edit.pipelines.graphs import cuda_graphs


def compiling(bench: Bench) -> Iterator[Figure]:
    """Of a model of its own, channels last."""
    if not bench.on_gpu:
        return
    torch._dynamo.config.recompile_limit = 64  # blocks of three widths, for three batches
    own = Bench(bench.device, bench.quick, bench.opened("float16"))
    unet = own.pipe.unet.to(memory_format=torch.channels_last)
    unet.compile_repeated_blocks(fullgraph=True, dynamic=True)
    with cuda_graphs(unet):
        for batch in BATCHES:
            yield from timed(bench, f"repeated blocks, graphs, batch {batch}", evaluation(own, batch))
        for preset, settings in bench.presets.items():
            edit = partial(edit_here, own.editor, bench.task(), settings)
            edit()
            yield figure(
                f"{preset}, repeated blocks, graphs", [seconds_of(edit) for _ in range(bench.repeats)]
            )
    own = Bench(bench.device, bench.quick, bench.opened("float16"))
    unet = own.pipe.unet.to(memory_format=torch.channels_last)
    unet.compile(mode="reduce-overhead", dynamic=False)
    yield from timed(bench, "whole UNet, reduce-overhead, batch 2", evaluation(own, 2))


def timed(bench: Bench, name: str, run: Callable[[], torch.Tensor]) -> Iterator[Figure]:
    """The first evaluation, which compiles, and those that follow."""
    yield Figure(f"{name}: the first evaluation", seconds_of(run))
    for _ in range(3):  # graphs are recorded in the next ones
        run()
    yield figure(name, [seconds_of(run, 10) for _ in range(bench.repeats)], "ms", 1000)
