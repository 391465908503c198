"""Compare this package with others in everything that it claims to do faster: `python -m benchmarks`.

Prints a table of times, in which the contenders of each line take turns; then the time and memory of each stage as an
edit grows; then where the time of an edit goes. "sd15" repeats the chosen parts, or all, with random weights of Stable
Diffusion 1.5's size: on a GPU with full settings, on CPUs with fewer steps, as the lines say, and without learning.
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    attention_swaps,
    diffedit_speed,
    growth,
    inside,
    stylediffusion_editing,
    stylediffusion_learning,
)
from benchmarks.contenders import HEADER, Contender, line
from benchmarks.options import parser_of
from benchmarks.scales import quick_scale_of, scale_of
from benchmarks.sd15 import NAME as SD15
from benchmarks.sd15 import open_pipeline
from benchmarks.tasks import recolouring
from benchmarks.timing import take_turns
from semantic_edit.loading import quiet_loading
from semantic_edit.options import add_device, add_dtype
from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline

PARTS = ("diffedit", "stylediffusion", "swaps", "memory", "inside")


class Model:
    """A model, and what is run with it.

    pipe: In the requested precision; `editor` is a DiffEdit pipeline with the same modules.
    exact: In float32, for learning, and for whole edits with explicit maps.
    """

    def __init__(self, name: str | None, options: argparse.Namespace) -> None:
        self.name, self.device = name, options.device
        self.label = "" if name is None else f"{name}: "
        self.pipe: Any = open_pipeline(StyleDiffusionPipeline, name, options.device, options.dtype)
        scale = quick_scale_of(name) if options.quick else scale_of(name, self.pipe.device)
        self.scale = replace(scale, repeats=options.repeats or scale.repeats)

    @cached_property
    def editor(self) -> DiffEditPipeline:
        return inside.editor_of(self.pipe)

    @cached_property
    def exact(self) -> Any:
        if self.pipe.unet.dtype == torch.float32:
            return self.pipe
        return open_pipeline(StyleDiffusionPipeline, self.name, self.device, "float32")


def diffedit_lines(model: Model) -> list[str]:
    """DiffEdit against diffusers."""
    scale = model.scale
    return diffedit_speed.lines(model.editor, recolouring(scale.size), scale.edit, scale.repeats)


def stylediffusion_lines(model: Model) -> Iterator[str]:
    """StyleDiffusion's learning and editing against the published loops."""
    scale, taken = model.scale, {}
    if scale.learning is not None:
        steps = scale.learning.steps
        lessons = stylediffusion_learning.still_lifes(scale.learning.lessons, scale.size)
        stylediffusion_learning.compared(model.exact, lessons, steps, checked=min(5, steps))
        learners = stylediffusion_learning.learners_of(
            model.exact, lessons, steps, scale.learning.inner_steps
        )
        runs = {name: learner.learn for name, learner in learners.items()}
        taken = take_turns(runs, min(3, scale.repeats))
        yield from stylediffusion_learning.lines(learners, taken, steps)
    task = recolouring(scale.size, scale.prompts)
    raced = stylediffusion_editing.races(model.pipe, task, scale.steps, scale.repeats)
    yield from stylediffusion_editing.lines(raced)
    yield from learned_and_edited(taken, raced[-1])


def learned_and_edited(taken: dict[str, list[float]], edits: stylediffusion_editing.Race) -> Iterator[str]:
    """A picture learned and edited against the published loops, round by round, from the times of both parts."""
    published = stylediffusion_learning.PUBLISHED
    ways = {
        "here, short schedule": edits.here,
        "here, no updates": edits.here,
        "here, by default": edits.by_default,
    }
    for name, edited in ways.items() if taken else ():
        both = [
            Contender(
                lambda: None, seconds=[sum(pair) for pair in zip(taken[learner], seconds, strict=False)]
            )
            for learner, seconds in ((name, edited.seconds), (published, edits.published.seconds))
        ]
        yield line(f"learning ({name.removeprefix('here, ')}) and {edits.what}", *both)


def swap_lines(model: Model) -> Iterator[str]:
    """Prompt-to-Prompt's swaps against explicit maps: first single layers, then whole edits."""
    scale, device = model.scale, model.pipe.device
    for kind in ("self", "cross"):
        for side in scale.sides:
            call = attention_swaps.layer_call(kind, side, device)
            found = attention_swaps.measured(call, scale.repeats, device)
            fused = Contender(call.fused, seconds=found.fused)
            what = f"{kind}-attention swap against explicit maps, {side} x {side}"
            if found.explicit is None:
                yield f"| {what} | {fused.cell} | does not fit into memory | - |"
            else:
                yield line(what, fused, Contender(call.explicit, seconds=found.explicit))
    for size in scale.whole_sizes:
        steps = min(10, scale.steps)
        done = attention_swaps.whole_edit(model.exact, size, steps, scale.repeats)
        what = f"StyleDiffusion editing against explicit maps, {size} px, S = {steps}"
        yield line(what, done.fused, done.explicit)


def stage_lines(model: Model) -> Iterator[str]:
    """The time and memory of DiffEdit's stages."""
    for setting in model.scale.grown:
        yield growth.line(model.editor, setting, min(3, model.scale.repeats))


def print_table(header: str, lines: Iterator[str]) -> None:
    """Print a table line by line as it is made, and nothing if it has no lines."""
    for number, one in enumerate(lines):
        if number == 0:
            print("\n" + header)
        print(one, flush=True)


def labelled(model: Model, lines: Iterable[str]) -> Iterator[str]:
    """The lines of a table, with the model's name in front of the first cell."""
    for one in lines:
        yield one.replace("| ", f"| {model.label}", 1)


def machine() -> str:
    """The machine and the versions, for the end of the report."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return (
        f"torch {torch.__version__}, Python {platform.python_version()}, {device}, {os.cpu_count()} CPU cores, "
        f"{torch.get_num_threads()} threads; medians, ranges in brackets"
    )


def processor() -> str:
    """The processor's name, which Python does not know on Linux."""
    known = Path("/proc/cpuinfo")
    listed = known.read_text().splitlines() if known.exists() else []
    names = [one.partition(": ")[2] for one in listed if one.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def print_tables(models: list[Model], parts: list[str]) -> None:
    """Print the tables of all chosen parts, for each model."""
    compared: dict[str, Callable[[Model], Iterable[str]]] = {
        "diffedit": diffedit_lines,
        "stylediffusion": stylediffusion_lines,
        "swaps": swap_lines,
    }
    times = (
        one
        for part, lines_of in compared.items()
        if part in parts
        for model in models
        for one in labelled(model, lines_of(model))
    )
    print_table(HEADER, times)
    if "memory" in parts:
        print_table(growth.HEADER, (one for model in models for one in labelled(model, stage_lines(model))))
    if "inside" in parts:
        print_inside(models)


def print_inside(models: list[Model]) -> None:
    """Where the time goes; functions outside the models are listed only for the still-life model."""
    edits = [
        (model, edit)
        for model in models
        for edit in inside.edits(
            model.pipe, recolouring(model.scale.size), model.scale.edit, model.scale.steps
        )
    ]
    shares = (
        one
        for model, edit in edits
        for one in labelled(model, [inside.shares(edit, min(5, model.scale.repeats))])
    )
    print_table(inside.HEADER, shares)
    for model, edit in edits:
        if model.name is None:
            print_table(inside.REST_HEADER, iter(inside.rest(edit, top=10)))


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of(__doc__, None)
    all_parts = (*PARTS, "sd15")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=all_parts,
        default=all_parts,
        metavar="PART",
        help=f"the parts to run, of {', '.join(all_parts)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="use tiny settings, only to see that everything runs"
    )
    add_device(parser)
    add_dtype(parser)
    options = parser.parse_args(arguments)
    quiet_loading()
    warnings.filterwarnings("ignore", "The learning did not converge")  # nothing was meant to be learned
    parts = [part for part in options.only if part != "sd15"]
    names = ([None] if parts else []) + ([SD15] if "sd15" in options.only else [])
    models = [Model(name, options) for name in names]
    print(machine())
    print_tables(models, parts or list(PARTS))


if __name__ == "__main__":
    main()
