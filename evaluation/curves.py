"""Trade-off curves: what a method gives as its knob is turned, and which is better at equal success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semantic_edit.evaluation.metrics import bootstrap_samples, quantile_interval


@dataclass(frozen=True, eq=False)
class Curve:
    """A method at each setting of its knob, in the knob's order, on the same edits.

    images: The picture of each edit, (edits,).
    success: Whether each edit shows what was asked for, (settings, edits).
    background: PSNR in dB outside what truly changes, (settings, edits).
    """

    name: str
    knobs: tuple[str, ...]
    images: tuple[int, ...]
    success: np.ndarray
    background: np.ndarray

    def means(self, edits: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Success and background of each setting, averaged over some of the edits."""
        return self.success[:, edits].mean(axis=1), self.background[:, edits].mean(axis=1)


@dataclass(frozen=True)
class Gap:
    """How a curve compares with one setting of a baseline, at the baseline's success.

    success, background: The baseline's.
    best_success: The highest success that the curve reaches.
    difference: The curve's background minus the baseline's, in dB; `None` if the curve does not succeed as often.
    interval: 95 % interval of the difference over resampled pictures; `None` if most samples have no difference.
    resolved: The fraction of samples that have a difference.
    """

    success: float
    background: float
    best_success: float
    difference: float | None
    interval: tuple[float, float] | None
    resolved: float


def background_at(
    success: Sequence[float] | np.ndarray, background: Sequence[float] | np.ndarray, goal: float
) -> float | None:
    """The best background on the line through a curve's points where it succeeds at least as often as `goal`.

    Args:
        success, background: One for each setting, in the knob's order; the line between neighbours is straight.
        goal: The success to reach.

    Returns:
        `None` if the curve stays below `goal`.
    """
    reached = [float(height) for rate, height in zip(success, background, strict=True) if rate >= goal]
    for index in range(len(success) - 1):
        first, second = float(success[index]), float(success[index + 1])
        if min(first, second) < goal < max(first, second):
            part = (goal - first) / (second - first)
            reached.append(float((1 - part) * background[index] + part * background[index + 1]))
    return max(reached, default=None)


def gap_at_equal_success(curve: Curve, baseline: Curve, knob: str, draws: int = 2000) -> Gap:
    """Compare a curve with one setting of a baseline, on the same edits.

    Args:
        curve, baseline: The two.
        knob: The baseline's setting.
        draws: Number of bootstrap samples.

    Raises:
        ValueError: If the two are of different edits, or the baseline has no such setting.
    """
    if curve.images != baseline.images:
        raise ValueError(
            f"The curves {curve.name!r} and {baseline.name!r} are of different edits: {len(curve.images)} and "
            f"{len(baseline.images)} of them. Compare them on the same ones."
        )
    if knob not in baseline.knobs:
        raise ValueError(
            f"{baseline.name!r} was not run at {knob!r}, but at {', '.join(baseline.knobs)}. Name one of these."
        )
    row = baseline.knobs.index(knob)

    def difference(edits: np.ndarray | slice) -> tuple[float, float, float, float | None]:
        rates, heights = baseline.means(edits)
        own_rates, own_heights = curve.means(edits)
        height = background_at(own_rates, own_heights, rates[row])
        gap = None if height is None else height - float(heights[row])
        return float(rates[row]), float(heights[row]), float(own_rates.max()), gap

    success, background, best, gap = difference(slice(None))
    drawn = [difference(sample)[3] for sample in bootstrap_samples(curve.images, draws)]
    resolved = [value for value in drawn if value is not None]
    interval = quantile_interval(resolved) if 2 * len(resolved) > draws else None
    return Gap(success, background, best, gap, interval, len(resolved) / draws)
