"""Edit images as large as photographs: `python -m benchmarks.photographs [--count 64] [--split test]`.

First, how long an image of 12.6 megapixels takes compared with one of the model's own size, and how much memory. Then
still lifes with a single object of a quarter of its usual size, in images of four times the model's side, edited whole
and in a closer view: how often the edit succeeds, how much of the old object is left over, and how well the rest is
kept.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.memory import mib
from benchmarks.options import add_count, parser_of
from benchmarks.small_things import WORDS, seen_up_close, small_cases
from benchmarks.timing import take_turns
from semantic_edit.evaluation.metrics.edit_metrics import MOST
from semantic_edit.evaluation.metrics.nearest import nearest_alternative
from semantic_edit.evaluation.metrics.remains import leftover
from semantic_edit.evaluation.metrics.similarity import psnr
from semantic_edit.evaluation.verdicts import shows_edit
from semantic_edit.loading import quiet_loading
from semantic_edit.names import SPLITS
from semantic_edit.pipelines import DiffEditPipeline
from semantic_edit.still_life import EditCase, model_path
from semantic_edit.still_life.judge import Judge, judged, load_judge
from semantic_edit.still_life.scenes import sample_scene

LARGE = 32  # as a multiple of the still-life model's side
WAYS = {
    "whole": {"focus": False},
    "automatic focus": {},
    "true mask, whole": {"focus": False},
    "true mask, automatic focus": {},
}


def small_lines(pipe: Any, count: int, split: str) -> Iterator[str]:
    """Print a line for each kind of edit and each way to view the image."""
    yield "| small things | nearest render | judge | leftover | PSNR outside |\n|---|---|---|---|---|"
    judge = load_judge()
    for kind in WORDS:
        cases = small_cases(count, kind, split)
        for way, options in WAYS.items():
            found = [_figures(pipe, judge, case, way.startswith("true"), options) for case in cases]
            nearest, right, left, outside = (statistics.fmean(column) for column in zip(*found, strict=True))
            yield f"| {kind}, {way} | {nearest:.3f} | {right:.3f} | {left:.3f} | {outside:.1f} dB |"


def _figures(
    pipe: Any, judge: Judge, case: EditCase, has_mask: bool, options: dict[str, Any]
) -> tuple[float, ...]:
    own = {"mask_image": case.changed_mask} if has_mask else {}
    generator = torch.Generator().manual_seed(0)
    done = pipe(case.image, case.prompt, case.source_prompt, generator=generator, **own, **options)
    image, changed = done.images[0], case.changed_mask
    wanted = next(word for word, render in case.alternatives.items() if render == case.target_image)
    (answer,) = judged(judge, [seen_up_close(image, case.scene)])
    return (
        float(nearest_alternative(image, case.alternatives, changed) == wanted),
        float(shows_edit(case, answer)),
        leftover(image, case.image, case.target_image, changed),
        min(MOST, psnr(image, case.image, ~changed)),
    )


def large_lines(pipe: Any, repeats: int) -> Iterator[str]:
    """Print the time and memory of editing a large image."""
    scene = sample_scene(7, objects=1)
    other = scene.with_object(0, colour="green")
    prompts = {"prompt": other.caption(0), "source_prompt": scene.caption(0)}
    usual = Image.fromarray(scene.render())
    large = Image.fromarray(scene.render(LARGE)).crop((0, 1024, 4096, 4096))
    content = io.BytesIO()
    large.save(content, "JPEG", quality=95)

    def edit(image: Image.Image) -> Any:
        return pipe(image, **prompts, generator=torch.Generator().manual_seed(0)).images[0]

    done = edit(large)
    peaks = [_peak_memory(lambda: edit(usual)), _peak_memory(lambda: edit(_read(content)))]
    runs = {
        "usual": lambda: edit(usual),
        "large": lambda: edit(large),
        "read": lambda: _read(content),
        "write": lambda: done.save(io.BytesIO(), "JPEG", quality=95),
    }
    seconds = {name: statistics.median(times) for name, times in take_turns(runs, repeats).items()}
    yield "\n| one edit | seconds |\n|---|---|"
    yield f"| {usual.width} x {usual.height} | {seconds['usual']:.2f} |"
    yield f"| {large.width} x {large.height} | {seconds['large']:.2f} ({seconds['large'] / seconds['usual']:.2f} x) |"
    yield f"| reading and writing it as JPEG | {seconds['read'] + seconds['write']:.2f} |"
    yield f"\nPeak memory beyond the model's own: {' and '.join(mib(peak) for peak in peaks)}"


def _read(content: io.BytesIO) -> Image.Image:
    content.seek(0)
    image = Image.open(content)
    image.load()
    return image


def _peak_memory(run: Callable[[], object]) -> int:
    """The peak memory of this process while something runs, beyond what it had before, in bytes; Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the recorded peak
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def main() -> None:
    parser = parser_of(__doc__, repeats=5)
    add_count(parser, "--count", 64, "edits for each line of the second table")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="test",
        help="which still lifes (default: %(default)s)",
    )
    options = parser.parse_args()
    quiet_loading()
    pipe = DiffEditPipeline.from_pretrained(model_path())
    pipe.set_progress_bar_config(disable=True)
    _print(large_lines(pipe, options.repeats))
    _print(small_lines(pipe, options.count, options.split))


if __name__ == "__main__":
    main()
