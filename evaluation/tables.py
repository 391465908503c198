"""The results as tables, for people and for programs."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from semantic_edit.datasets import EditItem
from semantic_edit.evaluation.curves import Curve, gap_at_equal_success
from semantic_edit.evaluation.measuring import LATENTS_OUTSIDE, OF_METHODS
from semantic_edit.evaluation.metrics import bootstrap_interval
from semantic_edit.evaluation.rows import Row
from semantic_edit.evaluation.running import Comparison
from semantic_edit.evaluation.sweeps import Sweep

SUCCESSES = ("nearest", "judge")
BACKGROUNDS = ("psnr_outside", LATENTS_OUTSIDE)
ALL = "all"
Tabled = list[dict[str, str | float | None]]


def kinds_of(comparison: Comparison) -> list[str]:
    """Each kind of edit, and all together if there are several."""
    kinds = list(comparison.kinds)
    return kinds if len(kinds) == 1 else [*kinds, ALL]


def measures_of(comparison: Comparison) -> list[str]:
    """The names of what is measured of edits."""
    return [*(metric.name for metric in comparison.metrics), *OF_METHODS]


def items_of(comparison: Comparison, kind: str) -> list[EditItem]:
    """The edits of a kind, or all."""
    return [item for item in comparison.items if kind in (ALL, item.kind)]


def usable_items(comparison: Comparison, sweeps: Iterable[Sweep], kind: str) -> list[EditItem]:
    """The edits on which no setting failed: methods are compared on the same edits."""
    methods = [method for sweep in sweeps for _, method in sweep.points]
    return [
        item
        for item in items_of(comparison, kind)
        if all("error" not in comparison.rows[comparison.edit_key(method, item)] for method in methods)
    ]


def edit_rows(comparison: Comparison, sweep: Sweep, items: Sequence[EditItem]) -> list[list[Row]]:
    """The rows of each point, edit by edit."""
    return [
        [comparison.rows[comparison.edit_key(method, item)] for item in items] for _, method in sweep.points
    ]


def curve_of(
    comparison: Comparison, sweep: Sweep, items: Sequence[EditItem], success: str, background: str
) -> Curve:
    """A sweep as a trade-off between a measure of success and one of how well the background is kept."""
    rows = edit_rows(comparison, sweep, items)
    groups = {group: number for number, group in enumerate(dict.fromkeys(item.group for item in items))}
    return Curve(
        name=sweep.name,
        knobs=tuple(label for label, _ in sweep.points),
        images=tuple(groups[item.group] for item in items),
        success=_values(rows, success),
        background=_values(rows, background),
    )


def _values(rows: Sequence[Sequence[Row]], name: str) -> np.ndarray:
    return np.array([[row.get(name) for row in point] for point in rows], dtype=np.float64)


def curve_table(comparison: Comparison, sweeps: Sequence[Sweep]) -> Tabled:
    """Every point of every sweep, for every kind of edit, with 95 % intervals over resampled pictures."""
    table: Tabled = []
    for kind in kinds_of(comparison):
        items = usable_items(comparison, sweeps, kind)
        for sweep in (one for one in sweeps if one.points and items):
            points = zip(sweep.points, edit_rows(comparison, sweep, items), strict=True)
            for (label, _), rows in points:
                line = _point_line(kind, sweep, label, items)
                for name in measures_of(comparison):
                    line |= _mean(name, rows, [item.group for item in items])
                line |= _mean("seconds", rows, [item.group for item in items])
                table.append(line)
    return table


def _point_line(
    kind: str, sweep: Sweep, label: str, items: Sequence[EditItem]
) -> dict[str, str | float | None]:
    """The first columns of the line for a sweep's point."""
    return {
        "edits": kind,
        "method": sweep.name,
        "knob": sweep.knob,
        "setting": label,
        "default": "yes" if label == sweep.default_point else "",
        "n": len(items),
        "pictures": len({item.group for item in items}),
    }


def set_table(comparison: Comparison, sweeps: Sequence[Sweep]) -> Tabled:
    """What is measured of all edits of a setting together, if anything, for every kind of edit."""
    if comparison.sets is None:
        return []
    table: Tabled = []
    for kind in kinds_of(comparison):
        items = usable_items(comparison, sweeps, kind)
        for sweep in sweeps if items else ():
            for label, method in sweep.points:
                images = [comparison.image_path(comparison.edit_key(method, item)) for item in items]
                table.append({**_point_line(kind, sweep, label, items), **comparison.sets(items, images)})
    return table


def _mean(name: str, rows: Sequence[Row], groups: Sequence[str]) -> dict[str, float | None]:
    """A mean with its interval, and the number of values: edits without a value are not counted."""
    known = [
        (float(row[name]), group)
        for row, group in zip(rows, groups, strict=True)
        if row.get(name) is not None
    ]
    if not known:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_n": 0}
    values, owners = zip(*known, strict=True)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(owners))}
    low, high = bootstrap_interval(values, [numbers[owner] for owner in owners])
    return {name: float(np.mean(values)), f"{name}_low": low, f"{name}_high": high, f"{name}_n": len(values)}


def gap_table(comparison: Comparison, curves: Sequence[Sweep], baselines: Sequence[Sweep]) -> Tabled:
    """How much better each curve keeps the background, by each measure of it, at the success of each baseline's
    default."""
    table: Tabled = []
    known = set(measures_of(comparison))
    measures = [pair for pair in itertools.product(SUCCESSES, BACKGROUNDS) if known.issuperset(pair)]
    for success, background in measures:
        for kind in kinds_of(comparison):
            items = usable_items(comparison, [*curves, *baselines], kind)
            for baseline in baselines:
                if baseline.default_point is None or not items:
                    continue
                other = curve_of(comparison, baseline, items, success, background)
                for sweep in (one for one in curves if one.points and one is not baseline):
                    own = curve_of(comparison, sweep, items, success, background)
                    if any(
                        np.isnan(values).any()
                        for one in (own, other)
                        for values in (one.success, one.background)
                    ):
                        continue  # some edits lack one of the two measures
                    gap = gap_at_equal_success(own, other, baseline.default_point)
                    low, high = gap.interval or (None, None)
                    table.append(
                        {
                            "success_by": success,
                            "edits": kind,
                            "baseline": f"{baseline.name}, {baseline.knob} {baseline.default_point}",
                            "success": gap.success,
                            "background_by": background,
                            "background": gap.background,
                            "method": sweep.name,
                            "best_success": gap.best_success,
                            "difference": gap.difference,
                            "difference_low": low,
                            "difference_high": high,
                            "resolved": gap.resolved,
                            "n": len(own.images),
                        }
                    )
    return table


def reconstruction_table(comparison: Comparison, sweeps: Iterable[Sweep]) -> Tabled:
    """How well each preparation reproduces the pictures, and what it took."""
    table: Tabled = []
    for sweep in {one.default.preparation: one for one in reversed(list(sweeps))}.values():
        keys = [comparison.reconstruction_key(sweep.default, group) for group in comparison.groups]
        rows = [row for row in (comparison.rows[key] for key in keys) if "to_vae" in row]
        if not rows:
            continue
        to_vae, lost, own, updates, seconds = (
            np.array([value(row) for row in rows])
            for value in (
                lambda row: row["to_vae"],
                lambda row: row["vae_to_picture"] - row["to_picture"],
                lambda row: row["vae_to_picture"],
                lambda row: row["backward_evaluations"],
                lambda row: row["seconds"],
            )
        )
        low, high = bootstrap_interval(to_vae)
        table.append(
            {
                "method": sweep.name,
                "to_vae": float(to_vae.mean()),
                "to_vae_low": low,
                "to_vae_high": high,
                "to_vae_worst": float(to_vae.min()),
                "lost": float(lost.mean()),
                "lost_worst": float(lost.max()),
                "within_1_db": float((lost <= 1).mean()),
                "vae": float(own.mean()),
                "backward_evaluations": float(updates.mean()),
                "backward_evaluations_most": float(updates.max()),
                "seconds": float(seconds.mean()),
                "batch": float(rows[0]["batch"]),
                "n": len(rows),
            }
        )
    return table[::-1]


def as_csv(table: Tabled) -> bytes:
    """A table as CSV, with one column for each entry of its first line."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]) if table else ["nothing"])
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()
