"""Time Prompt-to-Prompt's swaps in fused attention against explicit maps: `python -m benchmarks.attention_swaps`.

First one layer's attention for one guided edit, with the rows [source, target] unconditional and then conditional, for
latents of growing side; then whole edits of StyleDiffusion. The explicit contender computes the maps of every layer, as
the published code does, and overwrites the target's rows in place. For peak memory see memory.py.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.contenders import Contender, race
from benchmarks.explicit_attention import explicit_attention, explicitly_controlled
from benchmarks.memory import free_bytes, mib, peak_bytes
from benchmarks.options import add_count, add_counts, add_model, opened, parser_of
from benchmarks.tasks import barely_learned, recolouring
from benchmarks.timing import ratios, seconds_of, spread, take_turns
from semantic_edit.attention_processors.swaps import (
    CrossSwap,
    SelfSwap,
    swapped_cross_attention,
    swapped_self_attention,
)
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline

BATCH, HEADS, WIDTH, TOKENS = 4, 8, 40, 77
SIDES, SIZES = (16, 24, 32, 48, 64, 80, 96), (128, 256, 512)
SHORTEST = 0.05  # seconds; the shortest that a timed run may be
TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3}
FITS = 0.8  # fraction of the free memory that explicit maps may take


@dataclass(frozen=True)
class Call:
    """One layer's attention, computed both ways."""

    kind: str
    side: int
    fused: Callable[[], torch.Tensor]
    explicit: Callable[[], torch.Tensor]
    map_bytes: int


@torch.no_grad()
def layer_call(kind: str, side: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Call:
    """A "self" or "cross" swap at `side` x `side` positions."""
    keys = side**2 if kind == "self" else TOKENS
    generator = torch.Generator().manual_seed(0)

    def drawn(length: int) -> torch.Tensor:
        return torch.randn(BATCH, HEADS, length, WIDTH, generator=generator).to(device, dtype)

    query, key, value = drawn(side**2), drawn(keys), drawn(keys)
    map_bytes = dtype.itemsize * BATCH * HEADS * side**2 * keys
    if kind == "self":
        own = (SelfSwap(2, (3,)), SelfSwap(0, (1,)))
        fused = partial(swapped_self_attention, query, key, value, own)
        return Call(kind, side, fused, partial(explicit_attention, query, key, value, own), map_bytes)
    whole, nothing = torch.eye(TOKENS, device=device)[None], torch.zeros(1, TOKENS, device=device)
    replaced = (CrossSwap(2, (3,), whole, nothing),)
    fused = partial(swapped_cross_attention, query, key, value, replaced)
    return Call(kind, side, fused, partial(explicit_attention, query, key, value, replaced), map_bytes)


@dataclass(frozen=True)
class Measured:
    """What one call took; times in seconds. `explicit` is empty if its maps do not fit into memory."""

    kind: str
    side: int
    fused: list[float]
    fused_bytes: int
    explicit: list[float] | None
    explicit_bytes: int

    @property
    def line(self) -> str:
        """A table's."""
        own = f"| {self.kind} | {self.side} | {spread([1000 * one for one in self.fused])} |"
        if self.explicit is None:
            return f"{own} does not fit | - | {mib(self.fused_bytes)} | {mib(self.explicit_bytes)} at least | - |"
        gain = ratios(self.explicit, self.fused)
        memory = self.explicit_bytes / max(self.fused_bytes, 1)
        return (
            f"{own} {spread([1000 * one for one in self.explicit])} | {spread(gain, 1)} | "
            f"{mib(self.fused_bytes)} | {mib(self.explicit_bytes)} | {memory:.0f} |"
        )


@torch.no_grad()
def measured(call: Call, repeats: int, device: torch.device) -> Measured:
    """Time both in turn, once they are seen to agree."""
    if 2 * call.map_bytes > FITS * free_bytes(device):
        seconds = take_turns({"fused": call.fused}, repeats)["fused"]
        return Measured(
            call.kind, call.side, seconds, peak_bytes(call.fused, device), None, 2 * call.map_bytes
        )
    fused = call.fused()
    tolerance = TOLERANCES[fused.dtype]
    torch.testing.assert_close(fused, call.explicit(), rtol=tolerance, atol=tolerance)
    calls = max(1, math.ceil(SHORTEST / seconds_of(call.fused)))
    taken = take_turns({"fused": call.fused, "explicit": call.explicit}, repeats, calls)
    return Measured(
        call.kind,
        call.side,
        taken["fused"],
        peak_bytes(call.fused, device),
        taken["explicit"],
        peak_bytes(call.explicit, device),
    )


@dataclass(frozen=True)
class WholeEdit:
    """What one edit with StyleDiffusion took both ways, in seconds and bytes."""

    size: int
    fused: Contender
    explicit: Contender
    fused_bytes: int
    explicit_bytes: int


def whole_edit(pipe: Any, size: int, steps: int, repeats: int) -> WholeEdit:
    """Time both in turn, once they are seen to agree."""
    task = recolouring(size)
    network = barely_learned(pipe, task, steps)

    def edit(explicit: bool) -> np.ndarray:
        swapped: AbstractContextManager[object] = patch(
            "semantic_edit.pipelines.restyling.controlled_attention", explicitly_controlled
        )
        if explicit:
            with swapped:
                return pipe(task.prompt, mapping_network=network, output_type="np").images
        return pipe(task.prompt, mapping_network=network, output_type="np").images

    if pipe.unet.dtype == torch.float32:
        difference = float(np.abs(edit(False) - edit(True)).max())
        assert difference < 1e-2, f"the two edits differ by {difference}"
    fused, explicit = Contender(partial(edit, False)), Contender(partial(edit, True))
    race({"fused": fused, "explicit": explicit}, pipe.unet, repeats)
    peaks = [peak_bytes(partial(edit, explicit), pipe.device) for explicit in (False, True)]
    return WholeEdit(size, fused, explicit, *peaks)


def drawn(results: list[Measured]) -> Any:
    """Plot the time and memory of self-attention swaps over the side, with matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    times, memory = figure.subplots(1, 2)
    own = [one for one in results if one.kind == "self"]
    both = [one for one in own if one.explicit is not None]
    times.plot([one.side for one in own], [statistics.median(one.fused) for one in own], "o-", label="fused")
    explicit = [statistics.median(one.explicit or [0]) for one in both]
    times.plot([one.side for one in both], explicit, "s-", label="explicit maps")
    memory.plot([one.side for one in own], [one.fused_bytes / 2**20 for one in own], "o-", label="fused")
    needed = [one.explicit_bytes / 2**20 for one in own]
    memory.plot([one.side for one in own], needed, "s-", label="explicit maps")
    for axes, title in ((times, "seconds"), (memory, "peak memory, MiB")):
        axes.set(xlabel="positions a side", ylabel=title, xscale="log", yscale="log")
        axes.set_xticks([one.side for one in own], [str(one.side) for one in own])
        axes.set_xticks([], minor=True)  # a logarithmic axis would add labels of its own
        axes.legend()
    figure.suptitle(f"Self-attention swap, batch {BATCH}, {HEADS} heads of {WIDTH}")
    return figure


def main() -> None:
    parser = parser_of(__doc__, repeats=5)
    add_model(parser, "model for whole edits: ")
    add_counts(parser, "--sides", SIDES, "sides of the latents of single layers")
    add_counts(parser, "--sizes", SIZES, "sides of the images of whole edits, in pixels")
    add_count(parser, "--steps", 10, "number of steps of whole edits")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the figure into this file; needs matplotlib"
    )
    options = parser.parse_args()
    pipe = opened(StyleDiffusionPipeline, options, "float32")
    results = []
    print(
        "| swap | side | fused, ms | explicit, ms | times as fast | fused, peak | explicit, peak | times less |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in ("self", "cross"):
        for side in options.sides:
            results.append(measured(layer_call(kind, side, pipe.device), options.repeats, pipe.device))
            print(results[-1].line, flush=True)
    if options.sizes:
        print(
            f"\n| whole edit of {options.steps} steps, latent's side | fused, s | explicit, s | times as fast |",
            end="",
        )
        print(" fused, peak | explicit, peak |\n| --- | --- | --- | --- | --- | --- |")
    for size in options.sizes:
        done = whole_edit(pipe, size, options.steps, options.repeats)
        fused, explicit = done.fused.seconds, done.explicit.seconds
        print(
            f"| {size // pipe.vae_scale_factor} | {spread(fused)} | {spread(explicit)} | "
            f"{spread(ratios(explicit, fused))} | {mib(done.fused_bytes)} | {mib(done.explicit_bytes)} |",
            flush=True,
        )
    print(
        f"\n{pipe.device}, {torch.get_num_threads()} threads, {options.repeats} rounds in turn; medians (ranges)"
    )
    if options.plot:
        try:
            drawn(results).savefig(options.plot, dpi=120)
        except ImportError:
            print("no plot: matplotlib is not installed")


if __name__ == "__main__":
    main()
