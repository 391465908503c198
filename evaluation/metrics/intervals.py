"""How sure a mean is: its standard error, and intervals from resampling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np


def standard_error(values: list[float] | list[bool]) -> float:
    """The standard error of the mean."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def bootstrap_samples(groups: Sequence[int], draws: int = 2000, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw groups with replacement, each with all its members: indices into the values that `groups` describes.

    Args:
        groups: The group of each value. Several edits of one picture form a group: they are not independent.
        draws: Number of samples.
        seed: Of the draws.
    """
    members = [np.flatnonzero(np.asarray(groups) == group) for group in dict.fromkeys(groups)]
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.concatenate([members[chosen] for chosen in rng.integers(len(members), size=len(members))])


def bootstrap_interval(
    values: Sequence[float] | Sequence[bool] | np.ndarray,
    groups: Sequence[int] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the mean, from the quantiles of resampled means.

    Args:
        values: At least one; infinite values make the interval infinite.
        groups: See `bootstrap_samples`; by default each value is a group of its own.
        level: The interval's coverage, in (0, 1).
        draws: Number of samples.
        seed: Of the draws.
    """
    array = np.asarray(values, dtype=np.float64)
    _, owners = np.unique(range(len(array)) if groups is None else groups, return_inverse=True)
    totals, sizes = np.bincount(owners, weights=array), np.bincount(owners)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(draws, len(sizes)))
    return quantile_interval(totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), level)


def quantile_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The interval that contains the middle `level` of some values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
