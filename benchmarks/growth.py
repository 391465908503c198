"""Time and peak memory of each stage of a DiffEdit edit as it grows: `python -m benchmarks.growth`.

One thing grows at a time: the size of the image, the number n of noise maps, the number of edits in a batch. The stages
are those that users can call, each with the result of the one before. Each includes encoding the prompts, and "VAE" is
encoding and decoding the image. Memory is counted beyond that of the models themselves; see memory.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.diffedit_speed import GUIDANCE, PAPER, STRENGTH
from benchmarks.memory import mib, peak_bytes
from benchmarks.options import add_count, add_counts, add_model, opened, parser_of
from benchmarks.tasks import recolouring
from benchmarks.timing import take_turns
from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.method import latents_of
from semantic_edit.options import add_dtype
from semantic_edit.pipelines import DiffEditPipeline

STAGES = ("mask", "inversion", "decoding", "VAE")
HEADER = (
    "| DiffEdit | " + " | ".join(STAGES) + " | together |\n" + "| --- " * (len(STAGES) + 2) + "|\n"
    "| | " + "seconds, peak | " * len(STAGES) + "seconds, highest |"
)
SIZES, MAPS, BATCHES = (128, 192, 256), (1, 5, 10, 20), (1, 2, 4)


@dataclass(frozen=True)
class Setting:
    """How large an edit is."""

    size: int = SIZES[0]
    maps: int = PAPER.num_maps_per_mask
    batch: int = 1
    steps: int = PAPER.num_inference_steps

    def __str__(self) -> str:
        return f"{self.size} px, n = {self.maps}, batch {self.batch}, S = {self.steps}"


@torch.no_grad()
def stages(pipe: Any, setting: Setting) -> dict[str, Callable[[], object]]:
    """Each stage by name, ready to run."""
    tasks = [recolouring(setting.size, seed=seed) for seed in range(setting.batch)]
    prompts, sources = [task.prompt for task in tasks], [task.source_prompt for task in tasks]
    images, denoiser = [task.image for task in tasks], denoiser_of(pipe)
    clean = latents_of(denoiser, images)
    walk = {"num_inference_steps": setting.steps, "inpaint_strength": STRENGTH}
    inverted = pipe.invert(image=clean, **walk)
    mask = torch.zeros(setting.batch, 1, *clean.shape[-2:])
    mask[..., : mask.shape[-1] // 2] = 1  # a found mask may be empty, and then nothing is decoded

    @torch.no_grad()
    def there_and_back() -> torch.Tensor:
        return denoiser.decode(latents_of(denoiser, images))

    return {
        "mask": lambda: pipe.generate_mask(
            clean,
            prompts,
            source_prompt=sources,
            num_maps_per_mask=setting.maps,
            num_inference_steps=setting.steps,
            generator=torch.Generator().manual_seed(0),
        ),
        "inversion": lambda: pipe.invert(image=clean, **walk),
        "decoding": lambda: pipe(
            prompt=prompts,
            trajectory=inverted.trajectory,
            mask_image=mask,
            guidance_scale=GUIDANCE,
            output_type="latent",
            **walk,
        ),
        "VAE": there_and_back,
    }


def line(pipe: DiffEditPipeline, setting: Setting, repeats: int) -> str:
    """A line of the table under `HEADER`; the run in which memory is measured also warms up for the timed ones."""
    runs = stages(pipe, setting)
    peaks = {name: peak_bytes(run, pipe.device) for name, run in runs.items()}
    taken = {name: statistics.median(seconds) for name, seconds in take_turns(runs, repeats).items()}
    cells = [f"{taken[name]:.2f}, {mib(peaks[name])}" for name in STAGES]
    return f"| {setting} | {' | '.join(cells)} | {sum(taken.values()):.2f}, {mib(max(peaks.values()))} |"


def grown(
    start: Setting, sizes: tuple[int, ...], maps: tuple[int, ...], batches: tuple[int, ...]
) -> Iterator[Setting]:
    """The starting point, then each thing grown by itself."""
    yield start
    yield from (replace(start, size=size) for size in sizes if size != start.size)
    yield from (replace(start, maps=count) for count in maps if count != start.maps)
    yield from (replace(start, batch=batch) for batch in batches if batch != start.batch)


def main() -> None:
    parser = parser_of(__doc__, repeats=3)
    add_model(parser)
    add_dtype(parser)
    add_counts(parser, "--sizes", SIZES, "sides of the image, of which the first is the starting point")
    add_counts(parser, "--maps", MAPS, "numbers of noise maps")
    add_counts(parser, "--batches", BATCHES, "numbers of images per call")
    add_count(parser, "--steps", PAPER.num_inference_steps, "number of steps")
    options = parser.parse_args()
    pipe = opened(DiffEditPipeline, options, options.dtype)
    start = Setting((options.sizes or SIZES)[0], steps=options.steps)
    print(HEADER)
    for setting in grown(start, tuple(options.sizes), tuple(options.maps), tuple(options.batches)):
        print(line(pipe, setting, options.repeats), flush=True)
    print(f"\n{pipe.device}, {torch.get_num_threads()} threads, medians of {options.repeats} rounds")


if __name__ == "__main__":
    main()
