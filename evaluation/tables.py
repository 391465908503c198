"""What the results say, as tables for people and for programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from semantic_edit.evaluation.curves import Curve, gap_at_equal_success
from semantic_edit.evaluation.metrics import bootstrap_interval
from semantic_edit.evaluation.rows import Row
from semantic_edit.evaluation.running import Comparison
from semantic_edit.evaluation.sweeps import Sweep

SUCCESSES = {"nearest": "nearest render", "judge": "judge"}
MEASURES = {
    "nearest": "success, nearest render",
    "judge": "success, judge",
    "background": "background, dB",
    "structure": "structure distance, x 1000",
}
Tabled = list[dict[str, str | float | None]]


def kinds_of(comparison: Comparison) -> list[str]:
    """Each kind of edit, and all together if there are several."""
    kinds = list(comparison.cases.kinds)
    return kinds if len(kinds) == 1 else [*kinds, "all"]


def edit_rows(comparison: Comparison, sweep: Sweep, kind: str) -> list[list[Row]]:
    """The rows of each point, picture by picture; "all" takes every kind."""
    kinds = comparison.cases.kinds if kind == "all" else (kind,)
    return [
        [
            comparison.rows[comparison.edit_key(method, each, number)]
            for number in range(comparison.cases.count)
            for each in kinds
        ]
        for _, method in sweep.points
    ]


def curve_of(comparison: Comparison, sweep: Sweep, kind: str, success: str = "nearest") -> Curve:
    """A sweep as a trade-off of success, "nearest" or "judge", against background."""
    rows = edit_rows(comparison, sweep, kind)
    return Curve(
        name=sweep.name,
        knobs=tuple(label for label, _ in sweep.points),
        pictures=tuple(row["key"]["number"] for row in rows[0]),
        success=_values(rows, success),
        background=_values(rows, "background"),
    )


def _values(rows: Sequence[Sequence[Row]], name: str) -> np.ndarray:
    return np.array([[row[name] for row in point] for point in rows], dtype=np.float64)


def curve_table(comparison: Comparison, sweeps: Iterable[Sweep]) -> Tabled:
    """Every point of every sweep, for every kind of edit, with 95 % intervals over resampled pictures."""
    table: Tabled = []
    for kind in kinds_of(comparison):
        for sweep in (one for one in sweeps if one.points):
            points = zip(sweep.points, edit_rows(comparison, sweep, kind), strict=True)
            for (label, _), rows in points:
                line: dict[str, str | float | None] = {
                    "edits": kind,
                    "method": sweep.name,
                    "knob": sweep.knob,
                    "setting": label,
                    "default": "yes" if label == sweep.default_point else "",
                }
                groups = [row["key"]["number"] for row in rows]
                for name in MEASURES:
                    scale = 1000.0 if name == "structure" else 1.0
                    values = scale * np.array([row[name] for row in rows], dtype=np.float64)
                    low, high = bootstrap_interval(values, groups)
                    line |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
                table.append({**line, "n": len(rows), "pictures": len(set(groups))})
    return table


def gap_table(comparison: Comparison, curves: Sequence[Sweep], baselines: Sequence[Sweep]) -> Tabled:
    """How much better each curve keeps the background at the success of each baseline's default."""
    table: Tabled = []
    for success in SUCCESSES:
        for kind in kinds_of(comparison):
            for baseline in baselines:
                if baseline.default_point is None:
                    continue
                other = curve_of(comparison, baseline, kind, success)
                for sweep in (one for one in curves if one.points):
                    own = curve_of(comparison, sweep, kind, success)
                    gap = gap_at_equal_success(own, other, baseline.default_point)
                    low, high = gap.interval or (None, None)
                    table.append(
                        {
                            "success_by": SUCCESSES[success],
                            "edits": kind,
                            "baseline": f"{baseline.name}, {baseline.knob} {baseline.default_point}",
                            "success": gap.success,
                            "background": gap.background,
                            "method": sweep.name,
                            "best_success": gap.best_success,
                            "difference": gap.difference,
                            "difference_low": low,
                            "difference_high": high,
                            "resolved": gap.resolved,
                            "n": len(own.pictures),
                        }
                    )
    return table


def reconstruction_table(comparison: Comparison, sweeps: Iterable[Sweep]) -> Tabled:
    """What each preparation gives back of the pictures, and what it took."""
    table: Tabled = []
    for sweep in {one.default.preparation: one for one in reversed(list(sweeps))}.values():
        keys = [comparison.reconstruction_key(sweep, number) for number in range(comparison.cases.count)]
        rows = [comparison.rows[key] for key in keys]
        if "to_vae" not in rows[0]:
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


def write_csv(path: Path, table: Tabled) -> None:
    """A table with one column for each entry of its first line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]) if table else ["nothing"])
        writer.writeheader()
        writer.writerows(table)
