"""StyleDiffusion: learning an image and editing it, against the published loops."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.published_learning import learn_as_published
from benchmarks.stylediffusion_editing import edits_as_published, edits_here
from benchmarks.stylediffusion_learning import GUIDANCE
from benchmarks.tasks import barely_learned
from benchmarks.timing import ratios, seconds_of
from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.pipelines.graphs import cuda_graphs

PUBLISHED_UPDATES = 1015  # in 30 steps, if none ends early
NEVER: Any = {"stop_below": 0.0, "stop_growth": 0.0}


def restyling(bench: Bench) -> Iterator[Figure]:
    """Edits with one prompt and with four, in a third of the published number of steps, because that loop is slow."""
    steps = bench.steps(10)
    task = bench.task(4)
    network = barely_learned(bench.pipe, task, steps)
    for prompts in (task.prompts[:1], task.prompts):
        runs = {
            "here": partial(edits_here, bench.pipe, network, prompts),
            "published loop": partial(edits_as_published, bench.pipe, network, task, prompts),
        }
        name = f"{len(prompts)} prompt{'s' * (len(prompts) > 1)}, S = {steps}"
        runs["here"]()
        seconds, peaks = bench.raced(runs, 1 if len(prompts) > 1 else 2)
        for way, own in seconds.items():
            yield figure(f"{name}: {way}", own)
            if bench.on_gpu:
                yield Figure(f"{name}: {way}, peak memory", peaks[way], "MiB")
        gains = ratios(seconds["published loop"], seconds["here"])
        yield figure(f"{name}: times as fast as the published loop", gains, "x")


def learning(bench: Bench) -> Iterator[Figure]:
    """Learn an image by the short and the long schedule, then estimate the time of an update in both loops from a few
    of them."""
    warnings.filterwarnings("ignore", "The learning did not converge")  # random weights cannot learn anything
    if bench.pipe is not bench.exact:
        with cuda_graphs(bench.pipe.unet):
            yield from learned_whole(bench, bench.pipe, "short", "graphs")
            yield from learned_whole(bench, bench.pipe, "long", "graphs", at_most=10.0)
    exact = {}
    with cuda_graphs(bench.exact.unet):
        exact["short"] = yield from learned_whole(bench, bench.exact, "short", "graphs")
        exact["long"] = yield from learned_whole(bench, bench.exact, "long", "graphs", at_most=10.0)
    updates = {
        "published loop": seconds_per_update(bench, partial(learn_as_published, guidance_scale=GUIDANCE)),
        "here": seconds_per_update(bench, type(bench.exact).learn_mapping),
    }
    for name, taken in updates.items():
        yield Figure(f"an update, float32, eager: {name}", 1000 * taken, "ms")
    gain = updates["published loop"] / updates["here"]
    yield Figure("an update, float32, eager: times as fast as the published loop", gain, "x")
    whole = PUBLISHED_UPDATES * updates["published loop"]
    yield Figure(f"published loop, scaled to its {PUBLISHED_UPDATES} updates at most", whole, "s")
    for schedule, seconds in exact.items():
        yield Figure(f"{schedule} schedule, float32, graphs: times as fast as that", whole / seconds, "x")
    yield from learned_whole(bench, bench.pipe, "short", "eager")
    yield from learned_whole(bench, bench.pipe, "long", "eager")


def learned_whole(
    bench: Bench, pipe: Any, schedule: str, way: str, at_most: float | None = None
) -> Generator[Figure, None, float]:
    """Measure the time and memory of learning an image by a schedule; returns the seconds."""
    task, steps, reports = bench.task(), bench.steps(30), []

    def learn() -> None:
        reports.append(pipe.learn_mapping(task.image, task.source_prompt, steps, settings=schedule).report)

    pipe.learn_mapping(task.image, task.source_prompt, 2)  # warms up
    seconds, peaks = bench.raced({"": learn}, repeats=1)
    name = f"{schedule} schedule, S = {steps}, {str(pipe.unet.dtype).removeprefix('torch.')}, {way}"
    yield figure(name, seconds[""], at_most=at_most)
    if bench.on_gpu:
        yield Figure(f"{name}: peak memory", peaks[""], "MiB")
    forward, backward = reports[-1].forward_evaluations[0] + steps, reports[-1].backward_evaluations[0]
    yield Figure(f"{name}: forward evaluations, beside {backward} backward", forward, "")
    return seconds[""][0]


def seconds_per_update(bench: Bench, learn: Callable[..., object]) -> float:
    """The seconds of one update, from learning two steps with few updates and with more."""
    task, few, many = bench.task(), 1, 2 if bench.quick else 6
    taken = []
    for updates in (few, few, many):  # the first warms up
        settings = replace(LearningSettings.published(), inner_steps=updates, inner_decay=0.0, **NEVER)
        run = partial(learn, bench.exact, task.image, task.source_prompt, 2, settings=settings)
        taken.append(seconds_of(run))
    return (taken[2] - taken[1]) / (2 * (many - few))
