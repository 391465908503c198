"""Time StyleDiffusion's editing here and as published: `python -m benchmarks.stylediffusion_editing`.

With one prompt, then with four. The published demo inverts the image and runs the source's branch for every edit (see
published_editing.py), which takes 5 evaluations of a sample per step and edit. Ours starts from the learned noise and
edits any number of prompts alongside a single source, with 2 evaluations per prompt and step, and those of the source
while its attention is taken. First, both are checked to give the same images, with the source left where guidance leads
it, as published. How well the image was learned does not affect the time, so it is hardly learned.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.contenders import HEADER, Contender, line, race
from benchmarks.options import add_count, add_model, add_size, opened, parser_of
from benchmarks.published_editing import edit_as_published, without_inversion
from benchmarks.sd15 import side_of
from benchmarks.tasks import Task, barely_learned, recolouring
from semantic_edit.evaluation.restyled import Restyled
from semantic_edit.options import add_dtype
from semantic_edit.pipelines import StyleDiffusionPipeline

TOLERANCE = 1e-2  # of pixels in [0, 1], after 30 guided steps in float32
STEPS, PROMPTS = 30, 4


def edits_as_published(pipe: Any, network: Any, task: Task, prompts: tuple[str, ...]) -> torch.Tensor:
    """(prompts, 3, height, width)."""
    return torch.stack([edit_as_published(pipe, network, task.image, prompt)[1] for prompt in prompts])


def edits_here(pipe: Any, network: Any, prompts: tuple[str, ...]) -> torch.Tensor:
    """(prompts, 3, height, width)."""
    return pipe(list(prompts), mapping_network=network, output_type="pt").images


def largest_difference(pipe: Any, network: Any, task: Task) -> float:
    """The largest difference between the first edit's images, with pixels in [0, 1]; the network's source must not be
    put back on its inversion."""
    here, published = (
        edits_here(pipe, network, task.prompts[:1]),
        edits_as_published(pipe, network, task, task.prompts[:1]),
    )
    return float((here - published).abs().max())


@dataclass(frozen=True)
class Race:
    """Edits of one picture, timed in turns: here in as many steps as published, here by default, and as published."""

    what: str
    here: Contender
    by_default: Contender
    published: Contender


def default_steps(steps: int) -> int:
    """Our default number of steps, reduced in the same proportion as `steps` from the published number."""
    return max(2, round(steps * Restyled().num_inference_steps / STEPS))


def races(pipe: Any, task: Task, steps: int, repeats: int) -> list[Race]:
    """With one prompt, and with all of the task's.

    Raises:
        AssertionError: If the edits differ, or one skipped evaluations.
    """
    network, fewer = (barely_learned(pipe, task, number) for number in (steps, default_steps(steps)))
    alone = without_inversion(network)
    if pipe.unet.dtype == torch.float32:
        difference = largest_difference(pipe, alone, task)
        assert difference < TOLERANCE, f"the two edits differ by {difference:.1e}"
    made, usual = [], Restyled()
    for prompts in dict.fromkeys((task.prompts[:1], task.prompts)):
        here, by_default = (Contender(partial(edits_here, pipe, one, prompts)) for one in (network, fewer))
        published = Contender(partial(edits_as_published, pipe, alone, task, prompts))
        race({"published": published, "here": here, "default": by_default}, pipe.unet, repeats)
        of_source = int(max(usual.tau_c, usual.tau_s) * steps) + int(usual.tau_u * steps)
        expected = (2 * len(prompts) * steps + of_source, 5 * len(prompts) * steps)
        assert (here.evaluations, published.evaluations) == expected, "an edit skipped evaluations"
        what = f"StyleDiffusion editing against the published loop, {task.image.width} px, S = {steps}"
        many = f"{len(prompts)} prompt{'s' * (len(prompts) > 1)}"
        made.append(Race(f"{what}: {many}", here, by_default, published))
    return made


def lines(raced: list[Race]) -> list[str]:
    """The lines of the table under `HEADER`."""
    return [
        text
        for one in raced
        for text in (
            line(one.what, one.here, one.published),
            line(f"{one.what}, by default", one.by_default, one.published),
        )
    ]


def main() -> None:
    parser = parser_of(__doc__, repeats=5)
    add_model(parser)
    add_dtype(parser)
    add_size(parser)
    add_count(parser, "--steps", STEPS, "number of steps")
    add_count(parser, "--prompts", PROMPTS, "number of edits of the image")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "The learning did not converge")  # nothing was meant to be learned
    pipe = opened(StyleDiffusionPipeline, options, options.dtype)
    task = recolouring(options.size or side_of(options.model), options.prompts)
    print(HEADER)
    print("\n".join(lines(races(pipe, task, options.steps, options.repeats))))
    print(f"\n{pipe.device}, {pipe.unet.dtype}, {torch.get_num_threads()} threads, ", end="")
    print(f"{options.repeats} rounds in turn; medians (ranges)")


if __name__ == "__main__":
    main()
