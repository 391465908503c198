from __future__ import annotations

import numpy as np
import pytest

from semantic_edit.still_life.cases import edit_cases


def test_cases_take_turns_and_repeat():
    cases = edit_cases(6, seed=3)
    assert [case.kind for case in cases] == ["colour", "object", "surface"] * 2
    again = edit_cases(4, seed=3)
    assert [case.scene for case in cases[:4]] == [case.scene for case in again]
    assert cases[0].scene != edit_cases(1, seed=4)[0].scene


@pytest.mark.parametrize("kind", ["colour", "object", "surface"])
def test_a_case_holds_its_ground_truth(kind: str):
    for case in edit_cases(3, seed=9, kinds=(kind,)):
        source, target = np.asarray(case.image), np.asarray(case.target_image)
        np.testing.assert_array_equal(source, np.asarray(case.alternatives[case.source_word]))
        np.testing.assert_array_equal(target, np.asarray(case.alternatives[case.target_word]))
        np.testing.assert_array_equal(target, case.target_scene.render())
        changed = np.abs(source.astype(int) - target.astype(int)).max(axis=-1) > 8
        np.testing.assert_array_equal(case.changed_mask, changed)
        assert case.source_word in case.source_prompt
        assert case.target_word in case.prompt
        assert case.source_prompt != case.prompt


def test_the_number_of_objects_can_be_fixed():
    for objects in (1, 2):
        cases = edit_cases(4, seed=2, kinds=("object",), objects=objects)
        assert all(len(case.scene.objects) == objects for case in cases)


def test_splits_share_no_scene():
    scenes = {
        split: {case.scene for case in edit_cases(4, seed=1, split=split)} for split in ("test", "validation")
    }
    assert not scenes["test"] & scenes["validation"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ("size",)}, "`kinds` must name some of colour, object, surface"),
        ({"kinds": ()}, "`kinds` must name"),
        ({"count": 0}, "`count` must be positive"),
        ({"seed": -1}, "`seed` in 0"),
        ({"split": "holdout"}, "`split` must be one of"),
    ],
)
def test_bad_requests_are_refused(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        edit_cases(**{"count": 1, "seed": 0, **arguments})  # type: ignore[arg-type]
