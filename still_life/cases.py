"""Edits with a known right answer: the picture before, the words, and the same scene rendered as it should become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.scenes import SPLITS, Scene, sample_scene
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES

EDIT_KINDS = ("colour", "object", "surface")
CHANGED_LEVELS = 8  # of 255: pixels that differ by more than this in some channel differ visibly
_WORDS: dict[str, tuple[str, ...]] = {"colour": tuple(COLOURS), "object": KINDS, "surface": SURFACES}


@dataclass(frozen=True)
class EditCase:
    """One edit with its ground truth.

    kind: What changes: "colour", "object" or "surface".
    image, target_image: RGB pictures of 128x128 pixels, before the edit and perfectly edited.
    source_prompt, prompt: The prompts for the two pictures, in the plain wording.
    changed_mask: (128, 128) booleans: where the two renders differ by more than 8 of 255 in some channel.
    alternatives: By word, the same scene rendered with each possible word for the changed attribute.
    scene, target_scene: What the two pictures show.
    index: Which object is edited, counted from the left; 0 for a surface.
    """

    kind: str
    image: Image.Image
    source_prompt: str
    prompt: str
    target_image: Image.Image
    changed_mask: np.ndarray
    alternatives: dict[str, Image.Image]
    scene: Scene
    target_scene: Scene
    index: int = 0

    @property
    def source_word(self) -> str:
        """The word for the attribute before the edit."""
        return _word(self.scene, self.kind, self.index)

    @property
    def target_word(self) -> str:
        """The word for the attribute after the edit."""
        return _word(self.target_scene, self.kind, self.index)


def edit_cases(
    count: int,
    seed: int,
    kinds: tuple[str, ...] = EDIT_KINDS,
    objects: int | None = None,
    split: str = "test",
) -> list[EditCase]:
    """Draw edits with their ground truth.

    Args:
        count: How many edits.
        seed: A non-negative integer below a million. Different seeds give different scenes; the same seed always gives
            the same ones.
        kinds: Some of "colour", "object" and "surface", which take turns.
        objects: How many objects the pictures show: 1, 2, or None for either.
        split: "test", "validation" or "train"; the splits never share a scene.

    Raises:
        ValueError: If a kind or the split does not exist, or `count`, `seed` or `objects` is out of range.
    """
    unknown = [kind for kind in kinds if kind not in EDIT_KINDS]
    if unknown or not kinds:
        raise ValueError(f"`kinds` must name some of {', '.join(EDIT_KINDS)}, got {kinds!r}.")
    if count < 1 or not 0 <= seed < 1_000_000:
        raise ValueError(f"`count` must be positive and `seed` in 0 … 999999, got {count} and {seed}.")
    return [_case(kinds[number % len(kinds)], (seed, number), objects, split) for number in range(count)]


def _case(kind: str, key: tuple[int, int], objects: int | None, split: str) -> EditCase:
    seed, number = key
    scene = sample_scene(1_000_000 + seed * 1_000_000 + number, split, objects)
    rng = np.random.default_rng((SPLITS.get(split, 0), 7, seed, number))
    index = int(rng.integers(len(scene.objects))) if kind != "surface" else 0
    words = _WORDS[kind]
    source = _word(scene, kind, index)
    target = str(rng.choice([word for word in words if word != source]))
    renders = {word: _changed(scene, kind, index, word).render() for word in words}
    difference = np.abs(renders[target].astype(np.int16) - renders[source].astype(np.int16))
    target_scene = _changed(scene, kind, index, target)
    return EditCase(
        kind=kind,
        image=Image.fromarray(renders[source]),
        source_prompt=scene.caption(0),
        prompt=target_scene.caption(0),
        target_image=Image.fromarray(renders[target]),
        changed_mask=difference.max(axis=-1) > CHANGED_LEVELS,
        alternatives={word: Image.fromarray(render) for word, render in renders.items()},
        scene=scene,
        target_scene=target_scene,
        index=index,
    )


def _word(scene: Scene, kind: str, index: int) -> str:
    item = scene.objects[index]
    return {"colour": item.colour, "object": item.kind, "surface": scene.surface}[kind]


def _changed(scene: Scene, kind: str, index: int, word: str) -> Scene:
    if kind == "surface":
        return scene.with_surface(word)
    return scene.with_object(index, **{"kind" if kind == "object" else "colour": word})
