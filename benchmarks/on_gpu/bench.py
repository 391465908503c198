"""What the sections share: the device, the models on it, and how large the runs are."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import diffusers
import torch
import transformers

from benchmarks.diffedit_speed import Settings
from benchmarks.inside import editor_of
from benchmarks.sd15 import NAME as SD15
from benchmarks.sd15 import open_pipeline, side_of
from benchmarks.tasks import Task, recolouring
from benchmarks.timing import seconds_of
from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline


@dataclass
class Bench:
    """quick: Use the still-life model and tiny settings, which measure nothing but show that everything works.
    given: StyleDiffusion's pipeline, if there already is one."""

    device: torch.device
    quick: bool = False
    given: Any = None

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device.type == "cuda"

    @property
    def model(self) -> str | None:
        """The name of the model: one of Stable Diffusion 1.5's size, or the still-life model."""
        return None if self.quick else SD15

    @property
    def side(self) -> int:
        """The side of the images in pixels."""
        return side_of(self.model) or 64

    @property
    def repeats(self) -> int:
        """Rounds of everything that is timed."""
        return 1 if self.quick else 3

    @property
    def presets(self) -> dict[str, Settings]:
        """DiffEdit's settings, by name."""
        if self.quick:
            return {"paper": Settings(4, 2), "default": Settings(2, 1, "default")}
        return {"paper": Settings(), "default": Settings().by_default()}

    def steps(self, wanted: int) -> int:
        """Steps of StyleDiffusion's edits and learning."""
        return 2 if self.quick else wanted

    @cached_property
    def pipe(self) -> Any:
        """StyleDiffusion's pipeline: the given one, or a new one in float16, or on a CPU in float32."""
        return self.given or self.opened("float16" if self.on_gpu else "float32")

    @cached_property
    def editor(self) -> DiffEditPipeline:
        """DiffEdit's pipeline, with the same modules."""
        return editor_of(self.pipe)

    @cached_property
    def exact(self) -> Any:
        """StyleDiffusion's pipeline in float32."""
        return self.opened("float32") if self.on_gpu else self.pipe

    def opened(self, dtype: str) -> Any:
        """A new pipeline in this precision."""
        return open_pipeline(StyleDiffusionPipeline, self.model, str(self.device), dtype)

    def raced(
        self, runs: Mapping[str, Callable[[], object]], repeats: int | None = None
    ) -> tuple[dict[str, list[float]], dict[str, float]]:
        """The seconds of each contender in several rounds, in turns, and its peak memory in MiB beyond what was in use
        before (0 on a CPU, where it is not counted)."""
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        peaks = dict.fromkeys(runs, 0.0)
        for _ in range(repeats or self.repeats):
            for name, run in runs.items():
                before = 0
                if self.on_gpu:
                    torch.cuda.reset_peak_memory_stats(self.device)
                    before = torch.cuda.memory_allocated(self.device)
                seconds[name].append(seconds_of(run))
                if self.on_gpu:
                    peaks[name] = (torch.cuda.max_memory_allocated(self.device) - before) / 2**20
        return seconds, peaks

    def task(self, edits: int = 1) -> Task:
        """What to edit."""
        return recolouring(self.side, edits)

    def machine(self) -> dict[str, Any]:
        """The machine and the versions."""
        card = torch.cuda.get_device_name(self.device) if self.on_gpu else f"CPU, {platform.machine()}"
        return {
            "card": card,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "Python": platform.python_version(),
        }
