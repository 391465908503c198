from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.scenes import HELD_OUT_PAIRS, sample_scene
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES


def _differs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second.astype(int)).max(axis=-1) > 8


def test_the_same_seed_gives_the_same_pixels():
    first, second = sample_scene(7).render(), sample_scene(7).render()
    assert first.shape == (128, 128, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


def test_other_seeds_and_splits_give_other_scenes():
    scenes = [sample_scene(seed, split) for split in ("train", "validation", "test") for seed in range(200)]
    assert len(set(scenes)) == len(scenes)


def test_scenes_cover_all_words_and_training_never_sees_the_held_out_pairs():
    pairs = {(item.colour, item.kind) for seed in range(1500) for item in sample_scene(seed, "train").objects}
    assert not pairs & HELD_OUT_PAIRS
    assert len(pairs) == len(COLOURS) * len(KINDS) - len(HELD_OUT_PAIRS)
    tested = {(item.colour, item.kind) for seed in range(1500) for item in sample_scene(seed, "test").objects}
    assert tested >= HELD_OUT_PAIRS
    assert {sample_scene(seed).surface for seed in range(100)} == set(SURFACES)


@pytest.mark.parametrize(("split", "objects"), [("holdout", None), ("test", 3)])
def test_unknown_requests_are_refused(split: str, objects: int | None):
    with pytest.raises(ValueError, match="must be"):
        sample_scene(0, split, objects)


def test_the_plain_caption_names_everything_from_left_to_right():
    scene = sample_scene(3, objects=2).with_surface("marble")
    scene = scene.with_object(0, kind="apple", colour="orange").with_object(1, kind="mug", colour="blue")
    assert scene.caption(0) == "an orange apple and a blue mug on a marble table"
    assert replace(scene, objects=scene.objects[1:]).caption(0) == "a blue mug on a marble table"


def test_wordings_vary_and_repeat():
    scene = sample_scene(3)
    assert len({scene.caption(wording) for wording in range(1, 60)}) > 15
    assert scene.caption(5) == scene.caption(5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_colour_changes_the_object_and_nothing_else(kind: str):
    scene = sample_scene(11, objects=1).with_object(0, kind=kind, colour="red")
    changed = _differs(scene.render(), scene.with_object(0, colour="blue").render())
    mask = scene.object_masks()[0]
    near = np.zeros_like(mask)
    for down, right in np.ndindex(3, 3):
        near |= np.roll(mask, (down - 1, right - 1), axis=(0, 1))
    assert not (changed & ~near).any()
    assert changed.sum() > 0.5 * mask.sum()


def test_a_new_surface_leaves_the_wall_and_what_the_objects_hide():
    scene = sample_scene(4, objects=1).with_surface("grass")
    changed = _differs(scene.render(), scene.with_surface("dark wood").render())
    assert not changed[: int(scene.horizon) - 6].any()
    assert changed[int(scene.horizon) + 6 :].mean() > 0.5


def test_masks_belong_to_one_object_each_and_the_nearer_object_hides_the_other():
    scene = sample_scene(21, objects=2)
    first, _ = scene.objects
    scene = scene.with_object(1, x=first.x + 10, base=first.base + 6)
    masks = scene.object_masks()
    assert not (masks[0] & masks[1]).any()
    farther, nearer = (replace(scene, objects=(item,)).object_masks()[0] for item in scene.objects)
    assert masks[1].sum() == nearer.sum()
    assert masks[0].sum() < farther.sum()
