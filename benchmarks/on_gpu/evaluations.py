"""How long one evaluation of the UNet takes: as it is, channels last, and replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.timing import seconds_of
from semantic_edit.pipelines.graphs import cuda_graphs

BATCHES = (1, 2, 10)


def evaluation(bench: Bench, batch: int) -> Callable[[], torch.Tensor]:
    """One call of the UNet as an edit makes it."""
    unet, side = bench.pipe.unet, bench.side // bench.pipe.vae_scale_factor
    made: dict[str, Any] = {"device": bench.device, "dtype": unet.dtype}
    latents = torch.randn(batch, unet.config.in_channels, side, side, **made)
    text = torch.randn(
        batch, bench.pipe.tokenizer.model_max_length, bench.pipe.text_encoder.config.hidden_size, **made
    )
    timestep = torch.full((), 500, device=bench.device)

    @torch.no_grad()
    def run() -> torch.Tensor:
        return unet(latents, timestep, encoder_hidden_states=text, return_dict=False)[0]

    return run


def evaluations(bench: Bench) -> Iterator[Figure]:
    """By layout of memory, way and batch."""
    unet, calls = bench.pipe.unet, 1 if bench.quick else 10
    batches = BATCHES[:2] if bench.quick else BATCHES
    runs = {batch: evaluation(bench, batch) for batch in batches}
    exact = {batch: run() for batch, run in runs.items()}
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "eager": nullcontext,
        "graphs": lambda: cuda_graphs(unet),
    }
    for layout in (torch.contiguous_format, torch.channels_last):
        unet.to(memory_format=layout)
        for way, around in ways.items():
            with around():
                for batch, run in runs.items():
                    off = float((run() - exact[batch]).abs().max() / exact[batch].abs().max())
                    name = f"batch {batch}, {way}{', channels last' * (layout == torch.channels_last)}"
                    run()
                    taken = [seconds_of(run, calls) for _ in range(bench.repeats)]
                    yield figure(name, taken, "ms", 1000)
                    yield Figure(f"{name}: largest difference, of the largest value", off, "")
    unet.to(memory_format=torch.contiguous_format)
