"""StyleDiffusion: learning a picture and editing it, against the loops as published."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.memory import peak_bytes
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.published_learning import learn_as_published
from benchmarks.stylediffusion_editing import edits_as_published, edits_here
from benchmarks.stylediffusion_learning import GUIDANCE
from benchmarks.tasks import barely_learned
from benchmarks.timing import ratios, seconds_of, take_turns
from semantic_edit.mapping_networks import LearningSettings

PUBLISHED_UPDATES = 1015  # of 30 steps, where none ends early
NEVER: Any = {"stop_below": 0.0, "stop_growth": 0.0}


def restyling(bench: Bench) -> Iterator[Figure]:
    """Edits of one prompt and of four, a third of the published number of steps."""
    steps = bench.steps(10)
    task = bench.task(4)
    network = barely_learned(bench.pipe, task, steps)
    for prompts in (task.prompts[:1], task.prompts):
        here = partial(edits_here, bench.pipe, network, prompts)
        published = partial(edits_as_published, bench.pipe, network, task, prompts)
        here()
        taken = take_turns({"published": published, "here": here}, bench.repeats)
        name = f"{len(prompts)} prompt{'s' * (len(prompts) > 1)}, S = {steps}"
        yield figure(f"{name}: here", taken["here"])
        yield figure(f"{name}: published loop", taken["published"])
        yield figure(
            f"{name}: times as fast as the published loop", ratios(taken["published"], taken["here"]), "x"
        )
        if bench.on_gpu:
            yield Figure(f"{name}: here, peak memory", peak_bytes(here, bench.device) / 2**20, "MiB")
            yield Figure(f"{name}: published, peak memory", peak_bytes(published, bench.device) / 2**20, "MiB")


def learning(bench: Bench) -> Iterator[Figure]:
    """A picture by the short schedule, whole; then what an update takes in both loops, from a few of them."""
    warnings.filterwarnings("ignore", "The learning did not converge")  # random weights show nothing to learn
    task, steps = bench.task(), bench.steps(30)
    short: list[float] = []
    for dtype in ("float16", "float32") if bench.on_gpu else ("float32",):
        pipe = bench.pipe if dtype == "float16" else bench.exact
        learn = partial(pipe.learn_mapping, task.image, task.source_prompt, steps)
        short = [seconds_of(learn) for _ in range(1 if bench.quick else 2)]
        yield figure(f"short schedule, S = {steps}, {dtype}", short, at_most=10.0)
        if bench.on_gpu:
            yield Figure(f"short schedule, {dtype}: peak memory", peak_bytes(learn, bench.device) / 2**20, "MiB")
    updates = {
        "published loop": seconds_per_update(bench, partial(learn_as_published, guidance_scale=GUIDANCE)),
        "here": seconds_per_update(bench, type(bench.exact).learn_mapping),
    }
    for name, seconds in updates.items():
        yield Figure(f"an update, float32: {name}", 1000 * seconds, "ms")
    gain = updates["published loop"] / updates["here"]
    yield Figure("an update: times as fast as the published loop", gain, "x")
    whole = PUBLISHED_UPDATES * updates["published loop"]
    yield Figure(f"published loop, scaled to its {PUBLISHED_UPDATES} updates at most", whole, "s")
    yield Figure("short schedule, float32: times as fast as that", whole / min(short), "x")


def seconds_per_update(bench: Bench, learn: Callable[..., object]) -> float:
    """From a learning of two steps and another one that makes more updates in each."""
    task, few, many = bench.task(), 1, 2 if bench.quick else 6
    taken = []
    for updates in (few, few, many):  # the first warms up
        settings = replace(LearningSettings.published(), inner_steps=updates, inner_decay=0.0, **NEVER)
        run = partial(learn, bench.exact, task.image, task.source_prompt, 2, settings=settings)
        taken.append(seconds_of(run))
    return (taken[2] - taken[1]) / (2 * (many - few))
