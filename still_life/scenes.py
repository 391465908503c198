"""Still lifes as values: what stands where, in which colour, on what; how it is said, and how it is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from semantic_edit.still_life import rendering
from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.solids import KINDS, POSES
from semantic_edit.still_life.surfaces import SURFACES

SPLITS = {"train": 0, "validation": 1, "test": 2}

# Never drawn for training, so that putting a known colour on a known object can be tested.
HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset(
    {("blue", "pear"), ("purple", "mug"), ("yellow", "cube"), ("green", "ball")}
)

SURFACE_PHRASES: dict[str, str] = {
    "light wood": "a light wood table",
    "dark wood": "a dark wood table",
    "marble": "a marble table",
    "grass": "grass",
    "sand": "sand",
    "checked cloth": "a checked cloth",
}
_OPENINGS = ("", "a photo of ", "a picture of ", "a still life with ", "a painting of ")
_JOINTS = (" and ", " next to ", " beside ")
_PLACES = (" on ", " standing on ", " lying on ")


@dataclass(frozen=True)
class SceneObject:
    """One object. x and base: pixels, where the middle of its foot stands; size: pixels an object unit (see solids).

    stretch widens it, tone lightens or darkens its colour, pose chooses one of the traced views.
    """

    kind: str
    colour: str
    x: float
    base: float
    size: float
    stretch: float = 1.0
    tone: float = 1.0
    pose: int = 0


@dataclass(frozen=True)
class Scene:
    """A still life of one or two objects, from left to right.

    horizon: the row, in pixels, where the surface meets the wall. light_angle: radians from straight behind the
    camera, positive to the right. wording chooses how `caption` says it.
    """

    objects: tuple[SceneObject, ...]
    surface: str
    horizon: float = 46.0
    light_angle: float = -0.8
    wall_tone: float = 1.0
    texture_offset: tuple[float, float] = (0.0, 0.0)
    wording: int = 0

    def render(self, scale: int = 1) -> np.ndarray:
        """RGB, uint8, (128 * scale, 128 * scale, 3). Equal scenes give equal pixels."""
        return rendering.render(self, scale)

    def object_masks(self) -> np.ndarray:
        """Where each object is seen: booleans (objects, 128, 128)."""
        return rendering.object_masks(self)

    def caption(self, wording: int | None = None) -> str:
        """Say what is in the picture; 0 is the plain wording, None takes the scene's own."""
        return _caption(self, self.wording if wording is None else wording)

    def with_object(self, index: int, **changes: object) -> Scene:
        """The same scene with attributes of one object changed: `scene.with_object(0, colour="green")`."""
        items = list(self.objects)
        items[index] = replace(items[index], **changes)  # type: ignore[arg-type]
        return replace(self, objects=tuple(items))

    def with_surface(self, surface: str) -> Scene:
        return replace(self, surface=surface)


def sample_scene(seed: int, split: str = "test", objects: int | None = None) -> Scene:
    """Draw a scene. The splits never share a scene; `objects` fixes how many there are (1 or 2).

    Raises:
        ValueError: For an unknown split or a number of objects other than 1 and 2.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, got {split!r}.")
    if objects not in (None, 1, 2):
        raise ValueError(f"`objects` must be 1, 2 or None for either, got {objects!r}.")
    rng = np.random.default_rng((SPLITS[split], seed))
    count = int(rng.integers(1, 3))
    count = count if objects is None else objects
    allow_held_out = split != "train"
    if count == 1:
        items = [_sample_object(rng, (50.0, 78.0), (29.0, 36.0), allow_held_out)]
    else:
        items = [
            _sample_object(rng, column, (23.0, 27.0), allow_held_out)
            for column in ((32.0, 38.0), (90.0, 96.0))
        ]
    return Scene(
        objects=tuple(items),
        surface=str(rng.choice(SURFACES)),
        horizon=float(rng.uniform(40, 52)),
        light_angle=float(rng.choice((-1, 1)) * rng.uniform(0.5, 1.0)),
        wall_tone=float(rng.uniform(0.94, 1.04)),
        texture_offset=(float(rng.uniform(0, 256)), float(rng.uniform(0, 256))),
        wording=int(rng.integers(0, 2**31)),
    )


def _sample_object(
    rng: np.random.Generator, columns: tuple[float, float], sizes: tuple[float, float], allow_held_out: bool
) -> SceneObject:
    while True:
        kind, colour = str(rng.choice(KINDS)), str(rng.choice(list(COLOURS)))
        if allow_held_out or (colour, kind) not in HELD_OUT_PAIRS:
            break
    return SceneObject(
        kind=kind,
        colour=colour,
        x=float(rng.uniform(*columns)),
        base=float(rng.uniform(90, 104)),
        size=float(rng.uniform(*sizes)),
        stretch=float(rng.uniform(0.94, 1.06)),
        tone=float(rng.uniform(0.93, 1.05)),
        pose=int(rng.integers(POSES)),
    )


def _with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _caption(scene: Scene, wording: int) -> str:
    """Word a scene. Most wordings name everything; some leave out the colours or the surface."""
    rng = np.random.default_rng(wording)
    opening, joint, place = (str(rng.choice(words)) for words in (_OPENINGS, _JOINTS, _PLACES))
    omission = rng.random()
    if wording == 0:
        opening, joint, place, omission = "", " and ", " on ", 1.0
    names = [item.kind if omission < 0.05 else f"{item.colour} {item.kind}" for item in scene.objects]
    said = opening + joint.join(_with_article(name) for name in names)
    return said if 0.05 <= omission < 0.15 else said + place + SURFACE_PHRASES[scene.surface]
