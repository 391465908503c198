"""How long one evaluation of the UNet takes: plainly, channels last, and replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    """Measure by memory layout, way and batch size; last with the convolutions that cuDNN finds fastest by trials."""
    batches = BATCHES[:2] if bench.quick else BATCHES
    runs = {batch: evaluation(bench, batch) for batch in batches}
    exact = {batch: run() for batch, run in runs.items()}
    unet = bench.pipe.unet
    for layout in (torch.contiguous_format, torch.channels_last):
        unet.to(memory_format=layout)
        lies = ", channels last" if layout == torch.channels_last else ""
        yield from compared(bench, f"eager{lies}", runs, exact)
        with cuda_graphs(unet):
            yield from compared(bench, f"graphs{lies}", runs, exact)
        with tried_convolutions(), cuda_graphs(unet):
            yield from compared(bench, f"graphs{lies}, cudnn.benchmark", runs, exact)
    unet.to(memory_format=torch.contiguous_format)


def compared(
    bench: Bench,
    way: str,
    runs: Mapping[int, Callable[[], torch.Tensor]],
    exact: Mapping[int, torch.Tensor],
) -> Iterator[Figure]:
    """Measure the milliseconds of one evaluation, and how far its result is from the expected one."""
    for batch, run in runs.items():
        off = float((run() - exact[batch]).abs().max() / exact[batch].abs().max())
        run()
        taken = [seconds_of(run, 1 if bench.quick else 8) for _ in range(bench.repeats)]
        yield figure(f"batch {batch}, {way}", taken, "ms", 1000)
        if off:
            yield Figure(f"batch {batch}, {way}: largest difference, of the largest value", off, "")


@contextmanager
def tried_convolutions() -> Iterator[None]:
    """In the block, set `torch.backends.cudnn.benchmark`."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
