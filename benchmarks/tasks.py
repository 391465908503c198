"""The contenders' task: recolour the object of a rendered scene, in an image of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from semantic_edit.evaluation.method import sides_of
from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.scenes import sample_scene


@dataclass(frozen=True)
class Task:
    """prompts: One for each edit."""

    image: Image.Image
    source_prompt: str
    prompts: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The prompt of the first edit."""
        return self.prompts[0]


def recolouring(size: int | None = None, edits: int = 1, seed: int = 0) -> Task:
    """A scene that no model was trained on; `size` is the side of the image in pixels, by default 128."""
    scene = sample_scene(seed, "test", objects=1)
    image = Image.fromarray(scene.render())
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    others = [colour for colour in COLOURS if colour != scene.objects[0].colour]
    prompts = tuple(scene.with_object(0, colour=colour).caption(wording=0) for colour in others[:edits])
    return Task(image, scene.caption(wording=0), prompts)


def barely_learned(pipe: Any, task: Task, steps: int) -> Any:
    """A mapping network of the image, to time edits with. It is not trained, which does not affect their time."""
    settings = LearningSettings(inner_steps=1, stop_below=1e9, converged_below=1e9)
    return pipe.learn_mapping(
        task.image,
        task.source_prompt,
        steps,
        settings=settings,
        gradient_checkpointing=True,
        **sides_of(task.image),
    )
