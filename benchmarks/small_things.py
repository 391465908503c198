"""Still lifes that are like photographs: the object to change is small, and the image has many pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from semantic_edit.still_life.cases import CHANGED_LEVELS, EditCase
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.scenes import Scene, sample_scene
from semantic_edit.still_life.solids import KINDS

SMALLER = (
    4  # how many times smaller than usual; the side grows as much, so the object keeps its number of pixels
)
FIRST_SCENE = 900_000_000  # far from the seeds of other measurements
WORDS = {"colour": ("colour", tuple(COLOURS)), "object": ("kind", KINDS)}


def small_cases(count: int, kind: str, split: str = "test") -> list[EditCase]:
    """Edits of one small object on a wide table, with their ground truth.

    Args:
        kind: "colour" or "object".
        split: "test" or "validation".
    """
    return [_case(number, kind, split) for number in range(count)]


def _case(number: int, kind: str, split: str) -> EditCase:
    scene = sample_scene(FIRST_SCENE + number, split, objects=1)
    rng = np.random.default_rng((number, len(kind)))
    place = {"x": float(rng.uniform(0.2, 0.8)) * SIDE, "base": float(rng.uniform(0.6, 0.9)) * SIDE}
    scene = scene.with_object(0, size=scene.objects[0].size / SMALLER, **place)
    attribute, words = WORDS[kind]
    source = getattr(scene.objects[0], attribute)
    target = str(rng.choice([word for word in words if word != source]))
    scenes = {word: scene.with_object(0, **{attribute: word}) for word in words}
    renders = {word: one.render(SMALLER) for word, one in scenes.items()}
    difference = np.abs(renders[target].astype(np.int16) - renders[source].astype(np.int16))
    return EditCase(
        kind=kind,
        image=Image.fromarray(renders[source]),
        source_prompt=scene.caption(0),
        prompt=scenes[target].caption(0),
        target_image=Image.fromarray(renders[target]),
        changed_mask=difference.max(axis=-1) > CHANGED_LEVELS,
        alternatives={word: Image.fromarray(render) for word, render in renders.items()},
        scene=scene,
        target_scene=scenes[target],
    )


def seen_up_close(image: Image.Image, scene: Scene) -> Image.Image:
    """The part of an image in which the object looks as in a usual still life, which is all that the judge knows."""
    item = scene.objects[0]
    left, upper = round(item.x * SMALLER - SIDE / 2), round(item.base * SMALLER - 0.76 * SIDE)
    return image.crop((left, upper, left + SIDE, upper + SIDE))
