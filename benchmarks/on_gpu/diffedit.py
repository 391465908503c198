"""DiffEdit with both presets against diffusers' deprecated pipeline: seconds and peak memory of an edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from benchmarks.contenders import counted
from benchmarks.diffedit_speed import diffusers_pipeline, edit_here, edit_with_diffusers
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import ratios
from semantic_edit.pipelines.graphs import cuda_graphs

GOALS = {"paper": 1.2, "default": 0.6}  # seconds on an H100


def diffedit(bench: Bench) -> Iterator[Figure]:
    """Measure both pipelines as they are, then ours with CUDA graphs."""
    task, upstream = bench.task(), diffusers_pipeline(bench.editor)
    here = {name: partial(edit_here, bench.editor, task, own) for name, own in bench.presets.items()}
    theirs = {name: partial(edit_with_diffusers, upstream, task, own) for name, own in bench.presets.items()}
    slow = {f"{name}, diffusers": run for name, run in theirs.items()}
    seconds: dict[str, list[float]] = {}
    yield from raced(bench, slow | {f"{name}, eager": run for name, run in here.items()}, seconds)
    left = edit_here(bench.editor, task, bench.presets["paper"])
    reused = partial(
        edit_here,
        bench.editor,
        task,
        bench.presets["paper"],
        trajectory=left.trajectory,
        mask_image=left.pixel_mask,
    )
    replayed = {f"{name}, graphs": run for name, run in here.items()}
    replayed["paper, graphs, trajectory and mask reused"] = reused
    with cuda_graphs(bench.editor.unet):
        yield from raced(bench, replayed, seconds)
    with channels_last(bench.editor), cuda_graphs(bench.editor.unet):
        yield from raced(
            bench, {f"{name}, graphs, channels last": run for name, run in here.items()}, seconds
        )
    for name in bench.presets:
        for way in ("eager", "graphs"):
            gains = ratios(seconds[f"{name}, diffusers"], seconds[f"{name}, {way}"])
            goal = 2.0 if way == "graphs" else None
            yield figure(
                f"{name}, {way}: times as fast as diffusers at the same settings", gains, "x", at_least=goal
            )
    gains = ratios(seconds["paper, diffusers"], seconds["default, graphs"])
    yield figure("default, graphs: times as fast as diffusers at its defaults", gains, "x")


@contextmanager
def channels_last(pipe: Any) -> Iterator[None]:
    """In the block, keep the weights of the UNet and the VAE in this memory format."""
    try:
        for model in (pipe.unet, pipe.vae):
            model.to(memory_format=torch.channels_last)
        yield
    finally:
        for model in (pipe.unet, pipe.vae):
            model.to(memory_format=torch.contiguous_format)


def raced(
    bench: Bench, runs: Mapping[str, Callable[[], object]], seconds: dict[str, list[float]]
) -> Iterator[Figure]:
    """Count each contender's evaluations, then time them in turns and measure their memory; fills in `seconds`."""
    counts = {}
    for name, run in runs.items():
        with counted(bench.editor.unet) as batches:
            run()
        counts[name] = sum(batches)
    taken, peaks = bench.raced(runs)
    seconds.update(taken)
    for name in runs:
        preset, _, way = name.partition(", ")
        goal = GOALS[preset] if way == "graphs" else None
        yield figure(f"{name}, {counts[name]} evaluations", seconds[name], at_most=goal)
        if bench.on_gpu:
            yield Figure(f"{name}: peak memory", peaks[name], "MiB")
