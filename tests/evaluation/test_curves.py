from __future__ import annotations

import numpy as np
import pytest

from semantic_edit.evaluation.curves import Curve, background_at, gap_at_equal_success


@pytest.mark.parametrize(
    ("goal", "background"),
    [
        (0.9, 20.0),  # a point
        (0.7, 22.0),  # half-way between two
        (0.5, 24.0),
        (0.3, 26.0),
        (0.0, 28.0),  # the curve succeeds more often at its best background
        (0.95, None),
    ],
)
def test_the_background_at_a_success_lies_on_the_line_between_points(goal, background):
    found = background_at([0.9, 0.5, 0.1], [20.0, 24.0, 28.0], goal)
    assert found == (None if background is None else pytest.approx(background))


def test_of_several_crossings_the_best_background_counts():
    """Success rises, falls and rises again: 0.5 is reached at 20 + 1, 24 - 1 and 24 + 2."""
    assert background_at([0.4, 0.6, 0.4, 0.6], [20.0, 22.0, 24.0, 28.0], 0.5) == pytest.approx(28.0)
    assert background_at([0.4, 0.6, 0.4, 0.45], [20.0, 22.0, 24.0, 28.0], 0.5) == pytest.approx(23.0)


def curve(name: str, success: list[float], background: list[float], edits: int = 40) -> Curve:
    """Edits with exactly these success rates, and the same background in each."""
    shows = np.array([[number < rate * edits for number in range(edits)] for rate in success], dtype=float)
    return Curve(
        name,
        tuple(f"{index}" for index in range(len(success))),
        tuple(range(edits)),
        shows,
        np.tile(np.array(background)[:, None], edits),
    )


def test_the_gap_is_what_the_curve_has_more_at_the_baselines_success():
    ours, theirs = curve("ours", [0.9, 0.5, 0.1], [20.0, 24.0, 28.0]), curve("theirs", [0.7], [20.5])
    gap = gap_at_equal_success(ours, theirs, "0", draws=200)
    assert (gap.success, gap.background, gap.best_success) == pytest.approx((0.7, 20.5, 0.9))
    assert gap.difference == pytest.approx(1.5)
    assert gap.interval is not None
    assert gap.interval[0] <= 1.5 <= gap.interval[1]
    assert gap.resolved == 1.0


def test_a_curve_has_no_gap_on_itself():
    ours = curve("ours", [0.9, 0.5, 0.1], [20.0, 24.0, 28.0])
    gap = gap_at_equal_success(ours, ours, "1", draws=50)
    assert gap.difference == 0.0
    assert gap.interval == (0.0, 0.0)


def test_a_curve_that_never_succeeds_as_often_has_no_gap():
    gap = gap_at_equal_success(curve("ours", [0.5], [30.0]), curve("theirs", [0.9], [20.0]), "0", draws=50)
    assert gap.difference is None
    assert gap.interval is None
    assert gap.resolved == 0.0


def test_curves_of_other_edits_are_refused():
    with pytest.raises(ValueError, match=r"'ours' and 'theirs' are of different edits: 4 and 5"):
        gap_at_equal_success(curve("ours", [1], [1], 4), curve("theirs", [1], [1], 5), "0")
    with pytest.raises(ValueError, match=r"'ours' was not run at '7.5', but at 0"):
        gap_at_equal_success(curve("ours", [1], [1]), curve("ours", [1], [1]), "7.5")
