"""Prompt-to-Prompt's swaps at 64 x 64 positions in fused attention, against explicit maps."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.attention_swaps import layer_call, measured
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import ratios

SIDES = (16, 32, 64)


def swaps(bench: Bench) -> Iterator[Figure]:
    """Single layers."""
    for dtype in (torch.float16, torch.float32) if bench.on_gpu else (torch.float32,):
        for kind in ("self", "cross"):
            for side in (4,) if bench.quick else SIDES:
                found = measured(layer_call(kind, side, bench.device, dtype), bench.repeats, bench.device)
                name = f"{kind}-attention, {side} a side, {str(dtype).removeprefix('torch.')}"
                yield figure(f"{name}: fused", found.fused, "ms", 1000)
                yield Figure(f"{name}: fused, peak", found.fused_bytes / 2**20, "MiB")
                if found.explicit is None:
                    continue
                yield Figure(f"{name}: explicit maps, peak", found.explicit_bytes / 2**20, "MiB")
                goal = 6.0 if (kind, side, dtype) == ("self", 64, torch.float16) else None
                yield figure(
                    f"{name}: times as fast as explicit maps",
                    ratios(found.explicit, found.fused),
                    "x",
                    at_least=goal,
                )
