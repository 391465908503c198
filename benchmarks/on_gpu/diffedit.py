"""DiffEdit at both presets against diffusers' deprecated pipeline, seconds and peak memory of an edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from benchmarks.contenders import counted
from benchmarks.diffedit_speed import diffusers_pipeline, edit_here, edit_with_diffusers
from benchmarks.memory import peak_bytes
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import take_turns
from semantic_edit.pipelines.graphs import cuda_graphs

GOALS = {"paper": 1.2, "default": 0.6}  # seconds on an H100


def diffedit(bench: Bench) -> Iterator[Figure]:
    """Both pipelines as they are, then ours with CUDA graphs."""
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
    with cuda_graphs(bench.editor.unet):
        yield from raced(bench, {**replayed, "paper, graphs, trajectory and mask reused": reused}, seconds)
    for name in bench.presets:
        for way in ("eager", "graphs"):
            pairs = zip(seconds[f"{name}, diffusers"], seconds[f"{name}, {way}"], strict=True)
            goal = {"at_least": 2.0} if way == "graphs" else {}
            gains = [one / other for one, other in pairs]
            yield figure(f"{name}, {way}: times as fast as diffusers at the same settings", gains, "x", **goal)
    pairs = zip(seconds["paper, diffusers"], seconds["default, graphs"], strict=True)
    gains = [one / other for one, other in pairs]
    yield figure("default, graphs: times as fast as diffusers at its defaults", gains, "x")


def raced(
    bench: Bench, runs: Mapping[str, Callable[[], object]], seconds: dict[str, list[float]]
) -> Iterator[Figure]:
    """Each counted, watched for memory, and timed in turn with the others."""
    for name, run in runs.items():
        with counted(bench.editor.unet) as batches:
            run()
        yield Figure(f"{name}: evaluations", sum(batches), "samples")
        if bench.on_gpu:  # on a CPU the profiler would take longer than the rest
            yield Figure(f"{name}: peak memory", peak_bytes(run, bench.device) / 2**20, "MiB")
    taken = take_turns(runs, bench.repeats)
    seconds.update(taken)
    for name, own in taken.items():
        preset, _, way = name.partition(", ")
        goal = {"at_most": GOALS[preset]} if way == "graphs" else {}
        yield figure(name, own, **goal)
