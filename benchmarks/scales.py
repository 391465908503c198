"""How much of everything `python -m benchmarks` runs with one model on one device."""

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
    """Of StyleDiffusion: steps, updates of the first of them as published, pictures that learn at once."""

    steps: int = STEPS
    inner_steps: int = 100
    lessons: int = 8


@dataclass(frozen=True)
class Scale:
    """What is run.

    repeats: Rounds of each line; of what takes minutes three at most.
    size: Side of the pictures in pixels; `None` for the still-life model's.
    edit: DiffEdit's settings.
    steps, prompts: Of StyleDiffusion's edits; one prompt is timed too.
    learning: `None` where it would take hours.
    sides, whole_sizes: Of the swaps: positions a side of single layers, pixels a side of whole edits.
    grown: DiffEdit's edits whose stages are measured.
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
    """What takes minutes, or an hour for a model of Stable Diffusion's size on CPUs."""
    size, edit = side_of(model), Settings.affordable(model, device)
    if model != SD15:
        stages = tuple(grown(Setting(), SIZES, MAPS, BATCHES))
        return Scale(5, size, edit, STEPS, PROMPTS, Learning(), (16, 32, 64), (128, 256, 512), stages)
    if device.type == "cpu":
        # five maps fill an evaluation of the mask, and one step of each kind shows its memory
        return Scale(2, size, edit, 2, 2, None, (), (), (Setting(512, maps=5, steps=2),))
    stages = tuple(grown(Setting(512), (), MAPS, BATCHES))
    return Scale(3, size, edit, STEPS, PROMPTS, Learning(lessons=4), (), (512,), stages)


def quick_scale_of(model: str | None) -> Scale:
    """What takes seconds and measures nothing: to see that all runs."""
    smallest = Setting(64, maps=1, steps=2)
    if model == SD15:
        return Scale(1, 64, Settings(2, 1), 1, 1, None, (), (), (smallest,))
    stages = (smallest, replace(smallest, batch=2))
    return Scale(1, 64, Settings(2, 1), 2, 2, Learning(2, 2, 2), (8,), (64,), stages)
