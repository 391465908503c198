"""What `torch.compile` gains: for the repeated blocks with our CUDA graphs, then for the whole UNet with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.evaluations import evaluation
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import seconds_of
from semantic_edit.pipelines.graphs import cuda_graphs


def compiling(bench: Bench) -> Iterator[Figure]:
    """Each way with a model of its own, channels last; with one batch size, because each is compiled anew."""
    if not bench.on_gpu:
        return
    torch._dynamo.config.recompile_limit = 64  # blocks of three widths
    own = Bench(bench.device, bench.quick, bench.opened("float16"))
    unet = own.pipe.unet.to(memory_format=torch.channels_last)
    unet.compile_repeated_blocks(fullgraph=True, dynamic=False)
    with cuda_graphs(unet):
        yield from timed(bench, "batch 2, repeated blocks, graphs", evaluation(own, 2))
    own = Bench(bench.device, bench.quick, bench.opened("float16"))
    unet = own.pipe.unet.to(memory_format=torch.channels_last)
    unet.compile(mode="reduce-overhead", dynamic=False)
    yield from timed(bench, "batch 2, whole UNet, reduce-overhead", evaluation(own, 2))


def timed(bench: Bench, name: str, run: Callable[[], torch.Tensor]) -> Iterator[Figure]:
    """Measure the first evaluation, which compiles, and those that follow."""
    yield Figure(f"{name}: the first evaluation", seconds_of(run))
    for _ in range(3):  # the next evaluations record graphs
        run()
    yield figure(name, [seconds_of(run, 10) for _ in range(bench.repeats)], "ms", 1000)
