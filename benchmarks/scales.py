"""How large the runs of `python -m benchmarks` are for one model on one device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from benchmarks.diffedit_speed import Settings
from benchmarks.growth import BATCHES, MAPS, SIZES, Setting, grown
from benchmarks.sd15 import NAME as SD15
from benchmarks.sd15 import side_of
from benchmarks.stylediffusion_editing import PROMPTS, STEPS


@dataclass(frozen=True)
class Learning:
    """StyleDiffusion's learning: steps, published updates of the first step, and images that are learned at once."""

    steps: int = STEPS
    inner_steps: int = 100
    lessons: int = 8


@dataclass(frozen=True)
class Scale:
    """How large the runs are.

    repeats: Rounds of each line; at most three if a round takes minutes.
    size: Side of the images in pixels; `None` for the still-life model's.
    edit: DiffEdit's settings.
    steps, prompts: Of StyleDiffusion's edits; a single prompt is timed too.
    learning: `None` if it would take hours.
    sides, whole_sizes: For the swaps: positions along a side in single layers, pixels along a side in whole edits.
    grown: The DiffEdit edits whose stages are measured.
    """

    repeats: int
    size: int | None
    edit: Settings
    steps: int
    prompts: int
    learning: Learning | None
    sides: tuple[int, ...]
    whole_sizes: tuple[int, ...]
    grown: tuple[Setting, ...]


def scale_of(model: str | None, device: torch.device) -> Scale:
    """Full runs: they take minutes, or an hour for a model of Stable Diffusion's size on CPUs."""
    size, edit = side_of(model), Settings.affordable(model, device)
    if model != SD15:
        stages = tuple(grown(Setting(), SIZES, MAPS, BATCHES))
        return Scale(5, size, edit, STEPS, PROMPTS, Learning(), (16, 32, 64), (128, 256, 512), stages)
    if device.type == "cpu":
        # five maps fill one evaluation of the mask, and one step of each kind shows the memory
        return Scale(2, size, edit, 2, 2, None, (), (), (Setting(512, maps=5, steps=2),))
    stages = tuple(grown(Setting(512), (), MAPS, BATCHES))
    return Scale(3, size, edit, STEPS, PROMPTS, Learning(lessons=4), (), (512,), stages)


def quick_scale_of(model: str | None) -> Scale:
    """Tiny runs: they take seconds and measure nothing, but show that everything works."""
    smallest = Setting(64, maps=1, steps=2)
    if model == SD15:
        return Scale(1, 64, Settings(2, 1), 1, 1, None, (), (), (smallest,))
    stages = (smallest, replace(smallest, batch=2))
    return Scale(1, 64, Settings(2, 1), 2, 2, Learning(2, 2, 2), (8,), (64,), stages)
