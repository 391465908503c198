"""Time Prompt-to-Prompt's swaps through fused attention against explicit maps: `python -m benchmarks.attention_swaps`.

One layer's attention for one edit with guidance, rows [source, target] unconditional, then conditional, at growing
sides of the latent; then whole edits of StyleDiffusion. The explicit contender makes every layer's maps, as the
published code does, and overwrites the target's rows in place. Peak memory is that of all that PyTorch's allocator gave
out during a call and had not yet got back, read from the profiler's memory events (the allocator's own count on a GPU);
inputs do not count.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import ratios, seconds_of, spread, take_turns
from semantic_edit.attention_processors.control import AttentionControl, AttentionPlan
from semantic_edit.attention_processors.install import installed
from semantic_edit.attention_processors.layers import (
    normed_text,
    positions,
    queries_and_keys,
    split_heads,
)
from semantic_edit.attention_processors.swaps import (
    CrossSwap,
    SelfSwap,
    swapped_cross_attention,
    swapped_self_attention,
)
from semantic_edit.loading import load_pipeline, quiet_loading
from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline
from semantic_edit.still_life.scenes import sample_scene

BATCH, HEADS, WIDTH, TOKENS = 4, 8, 40, 77
SHORTEST = 0.05  # seconds that a timed run lasts at least
FITS = 0.8  # part of the free memory that explicit maps may take


def explicit_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    swaps: tuple[CrossSwap, ...] | tuple[SelfSwap, ...],
    scale: float | None = None,
) -> torch.Tensor:
    """(batch, heads, positions, head width) by maps (batch, heads, queries, keys)."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    maps = (query @ key.transpose(-1, -2) * factor).softmax(dim=-1)
    for swap in swaps:
        for index, target in enumerate(swap.targets):
            if isinstance(swap, SelfSwap):
                maps[target] = maps[swap.source]
            else:
                maps[target] *= swap.from_target[index].to(maps)
                maps[target] += maps[swap.source] @ swap.from_source[index].to(maps)
    return maps @ value


class ExplicitAttnProcessor:
    """What [`ControlledAttnProcessor`] does, on explicit maps in every layer."""

    def __init__(self, control: AttentionControl) -> None:
        self.control = control

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        plan = self.control.plan or AttentionPlan()
        queries_from = positions(attn, hidden_states, temb)
        keys_from = values_from = queries_from
        swaps: tuple[Any, ...] = plan.self_swaps
        if encoder_hidden_states is not None:
            keys_from = values_from = normed_text(attn, encoder_hidden_states)
            swaps = plan.cross_swaps
            if plan.value_embeds is not None:
                values_from = normed_text(attn, plan.value_embeds.to(keys_from))
        elif plan.self_queries is not None and queries_from.shape[1] > plan.self_queries:
            swaps = ()
        query, key = queries_and_keys(attn, queries_from, keys_from)
        value = split_heads(attn, attn.to_v(values_from))
        output = explicit_attention(query, key, value, swaps, attn.scale)
        return attn.to_out[0](output.transpose(1, 2).flatten(2))


@contextmanager
def explicitly_controlled(unet: UNet2DConditionModel) -> Iterator[AttentionControl]:
    """`controlled_attention` with explicit maps."""
    control = AttentionControl()
    processor = ExplicitAttnProcessor(control)
    with installed(unet, lambda layer, present: processor):
        yield control


@dataclass(frozen=True)
class Call:
    """One layer's attention in both ways."""

    kind: str
    side: int
    fused: Callable[[], torch.Tensor]
    explicit: Callable[[], torch.Tensor]
    map_bytes: int


@torch.no_grad()
def layer_call(kind: str, side: int, device: torch.device) -> Call:
    """A "self" or "cross" swap at `side` x `side` positions."""
    keys = side**2 if kind == "self" else TOKENS
    generator = torch.Generator().manual_seed(0)

    def drawn(length: int) -> torch.Tensor:
        return torch.randn(BATCH, HEADS, length, WIDTH, generator=generator).to(device)

    query, key, value = drawn(side**2), drawn(keys), drawn(keys)
    map_bytes = 4 * BATCH * HEADS * side**2 * keys
    if kind == "self":
        own = (SelfSwap(2, (3,)), SelfSwap(0, (1,)))
        fused = partial(swapped_self_attention, query, key, value, own)
        return Call(kind, side, fused, partial(explicit_attention, query, key, value, own), map_bytes)
    whole, nothing = torch.eye(TOKENS, device=device)[None], torch.zeros(1, TOKENS, device=device)
    replaced = (CrossSwap(2, (3,), whole, nothing),)
    fused = partial(swapped_cross_attention, query, key, value, replaced)
    return Call(kind, side, fused, partial(explicit_attention, query, key, value, replaced), map_bytes)


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most that the allocator had given out at once during a call, beyond what it had before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def free_bytes(device: torch.device) -> int:
    """Memory that a call could take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measured:
    """What one call took; times in seconds, and nothing explicit where its maps do not fit."""

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
            return f"{own} does not fit | - | {_mib(self.fused_bytes)} | {_mib(self.explicit_bytes)} at least | - |"
        gain = ratios(self.explicit, self.fused)
        memory = self.explicit_bytes / max(self.fused_bytes, 1)
        return (
            f"{own} {spread([1000 * one for one in self.explicit])} | {spread(gain, 1)} | "
            f"{_mib(self.fused_bytes)} | {_mib(self.explicit_bytes)} | {memory:.0f} |"
        )


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


@torch.no_grad()
def measured(call: Call, repeats: int, device: torch.device) -> Measured:
    """Time both in turn, once they are seen to agree."""
    if 2 * call.map_bytes > FITS * free_bytes(device):
        seconds = take_turns({"fused": call.fused}, repeats)["fused"]
        return Measured(
            call.kind, call.side, seconds, peak_bytes(call.fused, device), None, 2 * call.map_bytes
        )
    torch.testing.assert_close(call.fused(), call.explicit(), rtol=1e-4, atol=1e-4)
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


def whole_edits(pipe: Any, size: int, steps: int, repeats: int) -> str:
    """A table's line: StyleDiffusion's edit of a picture of `size` pixels a side, in both ways."""
    scene = sample_scene(0, objects=1)
    colour = "blue" if scene.objects[0].colour != "blue" else "red"
    image = Image.fromarray(scene.render()).resize((size, size), Image.Resampling.BICUBIC)
    # how long it learns does not matter to the edit's time: nothing is updated
    settings = LearningSettings(inner_steps=1, stop_below=1e9, converged_below=1e9)
    network = pipe.learn_mapping(image, scene.caption(0), steps, settings=settings)
    prompt = scene.with_object(0, colour=colour).caption(0)

    def edit(explicit: bool) -> np.ndarray:
        swapped: AbstractContextManager[object] = patch(
            "semantic_edit.pipelines.restyling.controlled_attention", explicitly_controlled
        )
        if explicit:
            with swapped:
                return pipe(prompt, mapping_network=network, output_type="np").images
        return pipe(prompt, mapping_network=network, output_type="np").images

    difference = float(np.abs(edit(False) - edit(True)).max())
    assert difference < 1e-2, f"the two edits differ by {difference}"
    taken = take_turns({"fused": partial(edit, False), "explicit": partial(edit, True)}, repeats)
    peaks = [peak_bytes(partial(edit, explicit), pipe.device) for explicit in (False, True)]
    gain = ratios(taken["explicit"], taken["fused"])
    return (
        f"| {size // pipe.vae_scale_factor} | {spread(taken['fused'])} | {spread(taken['explicit'])} | "
        f"{spread(gain)} | {_mib(peaks[0])} | {_mib(peaks[1])} |"
    )


def draw(path: Path, results: list[Measured]) -> None:
    """Time and memory of self-attention swaps over the side, if matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
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
        axes.legend()
    figure.suptitle(f"Self-attention swap, batch {BATCH}, {HEADS} heads of {WIDTH}")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", help="for whole edits: a folder or a Hub id (default: the still-life model)"
    )
    parser.add_argument("--device")
    parser.add_argument("--sides", type=int, nargs="*", default=[16, 24, 32, 48, 64, 80, 96])
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[128, 256, 512], help="of whole edits, in pixels"
    )
    parser.add_argument("--steps", type=int, default=10, help="of whole edits")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="a picture to draw, with matplotlib")
    options = parser.parse_args()
    quiet_loading()
    pipe = load_pipeline(StyleDiffusionPipeline, options.model, options.device, "float32")
    pipe.set_progress_bar_config(disable=True)
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
        print(whole_edits(pipe, size, options.steps, options.repeats), flush=True)
    print(
        f"\n{pipe.device}, {torch.get_num_threads()} threads, {options.repeats} rounds in turn; medians (ranges)"
    )
    if options.plot:
        draw(options.plot, results)


if __name__ == "__main__":
    main()
