"""Run methods over a dataset, and write down all results."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.batch.results import RESULTS
from semantic_edit.batch.status import Watch
from semantic_edit.batch.team import ALONE
from semantic_edit.datasets import EditItem
from semantic_edit.denoisers import denoiser_of
from semantic_edit.disk.writing import write_folder
from semantic_edit.evaluation.figures import drawn_curves, drawn_grids
from semantic_edit.evaluation.metrics import JUDGE, SET_METRICS, SetMetrics, edit_metrics
from semantic_edit.evaluation.metrics.unavailable import optional_module
from semantic_edit.evaluation.report import (
    edits_in_markdown,
    gaps_in_markdown,
    reconstructions_in_markdown,
    report_of,
    sets_in_markdown,
)
from semantic_edit.evaluation.rows import Rows
from semantic_edit.evaluation.running import Comparison, Say, run_sweeps
from semantic_edit.evaluation.sweeps import Sweep
from semantic_edit.evaluation.tables import (
    ALL,
    as_csv,
    curve_table,
    gap_table,
    reconstruction_table,
    set_table,
    usable_items,
)
from semantic_edit.evaluation.verdicts import judge_metric

# compared with all others
OWN = ("DiffEdit", "DiffEdit, noise", "DiffEdit, FlowEdit", "StyleDiffusion", "StyleDiffusion, presets")


def comparison_of(
    pipe: DiffusionPipeline,
    items: Sequence[EditItem],
    folder: Path,
    metrics: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    **settings: Any,
) -> Comparison:
    """A comparison that writes its results to a folder, and continues from those that are already there.

    Args:
        pipe: The loaded model.
        items: The edits.
        folder: For the results.
        metrics: Names for `edit_metrics` or in `SET_METRICS`; by default all of the former that need nothing but the
            pipeline, and "judge".
        size: The size that the pictures were resized to, (width, height); results at different sizes are kept apart.
        settings: Of [`Comparison`].

    Raises:
        ValueError: If the folder holds something other than results of this command, or a metric does not exist.
        MetricUnavailable: If a named metric is not available here.
    """
    of_sets = [name for name in metrics or () if name in SET_METRICS]
    others = [JUDGE, *of_sets]
    measures = edit_metrics(metrics and [name for name in metrics if name not in others], pipe)
    is_judged = JUDGE in metrics if metrics else any(item.case is not None for item in items)
    if is_judged:
        measures.insert(0, judge_metric())
    identity = {
        "model": denoiser_of(pipe).identity(),
        "metrics": sorted(measure.name for measure in measures),
        "size": size and list(size),
    }
    return Comparison(
        pipe=pipe,
        items=tuple(items),
        metrics=tuple(measures),
        rows=Rows(folder / RESULTS, settings.get("team", ALONE).index),
        identity=identity,
        folder=folder,
        sets=SetMetrics(of_sets, pipe) if of_sets else None,
        **settings,
    )


def evaluate(comparison: Comparison, sweeps: Sequence[Sweep], say: Say, curves: bool = False) -> str:
    """Compute what is missing, then write every table and picture, all or none.

    Of several processes, each computes its share, and the first waits for the others and writes.

    The files are report.md, edits.csv, gaps.csv, reconstructions.csv, with metrics of sets also sets.csv, and for each
    sweep a grid of edits to look at.

    Args:
        comparison: What to compare.
        sweeps: The methods and their settings.
        say: Called with each line of progress.
        curves: Whether to draw the trade-off curves too.

    Returns:
        The tables in Markdown; "" in other processes than the first.

    Raises:
        ValueError: Before any work, if the pipeline lacks what a method needs, or its schedule does not allow the
            number of steps; see [`EditMethod.check`] and [`EditMethod.check_steps`].
        MetricUnavailable: Before any work, if curves are requested and matplotlib is not installed.
        TimeoutError: If another process died.
    """
    check_sweeps(comparison.pipe, sweeps)
    if curves:
        optional_module("matplotlib.figure", "Drawing curves")
    team = comparison.team
    watch = Watch(comparison.folder, team, lambda line: None)  # each sweep's progress is told instead
    with watch.beating():
        if comparison.sets and team.leads:
            comparison.sets.see_references(comparison.items, comparison.skips)
        run_sweeps(comparison, sweeps, say)
    if not team.leads:
        return ""
    watch.wait()
    comparison.rows.refresh()
    edits, sets = curve_table(comparison, sweeps), set_table(comparison, sweeps)
    own = [sweep for sweep in sweeps if sweep.name in OWN]
    gaps = gap_table(comparison, own, sweeps)
    reconstructions = reconstruction_table(comparison, sweeps)
    tables = {"edits": edits, "gaps": gaps, "reconstructions": reconstructions}
    tables |= {"sets": sets} if comparison.sets else {}
    files = {f"{name}.csv": as_csv(table) for name, table in tables.items()} | drawn_grids(comparison, sweeps)
    if curves:
        files |= drawn_curves(comparison, edits)
    defaults = [line for line in edits if line["default"]]
    main_measures = (
        "nearest",
        "judge",
        "leftover",
        "psnr_to_target",
        "seam",
        "clip",
        "clip_score",
        "psnr_outside",
        "latents_outside",
        "ns_lpips",
        "structure",
        "mask_iou",
    )
    text = report_of(
        _heading(comparison, sweeps),
        (
            ("Every method at its default", defaults, edits_in_markdown),
            ("Sets of pictures", sets, sets_in_markdown),
            ("Reconstruction", reconstructions, reconstructions_in_markdown),
            ("Trade-off curves", edits, partial(edits_in_markdown, measures=main_measures)),
            ("Background at equal success", gaps, gaps_in_markdown),
        ),
    )
    write_folder(comparison.folder, {**files, "report.md": text.encode()})
    return text


def check_sweeps(pipe: DiffusionPipeline, sweeps: Sequence[Sweep]) -> None:
    """Raise if a pipeline cannot run some of the methods and settings.

    Raises:
        ValueError: Naming what it lacks, or the number of steps that is too large or too small.
    """
    for sweep in sweeps:
        for method in (sweep.default, *(method for _, method in sweep.points)):
            method.check(pipe)
            method.check_steps(pipe)


def _heading(comparison: Comparison, sweeps: Sequence[Sweep]) -> str:
    command = shlex.join(["semantic-edit", *sys.argv[1:]])
    used = len(usable_items(comparison, sweeps, ALL))
    left_out = len(comparison.items) - used
    without = f" {left_out} more failed under some method and are left out of all." if left_out else ""
    return (
        f"`{command}`\n\nModel {comparison.identity['model']}, {used} edits of {len(comparison.groups)} pictures, "
        f"seed {comparison.seed}.{without} In brackets, 95 % intervals over resampled pictures; settings in bold are "
        "each method's default.\n"
    )


def resized_item(item: EditItem, size: tuple[int, int]) -> EditItem:
    """The same edit of the picture at another size.

    Args:
        item: Not a still life, whose ground truth has a fixed size.
        size: (width, height).
    """

    def image() -> Image.Image:
        return item.load_image().resize(size, Image.Resampling.LANCZOS)

    return replace(
        item,
        load_image=image,
        load_mask=_resized_mask(item.load_mask, size),
        load_region=_resized_mask(item.load_region, size),
    )


def _resized_mask(
    load: Callable[[], np.ndarray] | None, size: tuple[int, int]
) -> Callable[[], np.ndarray] | None:
    if load is None:
        return None
    return lambda: np.asarray(Image.fromarray(load()).resize(size, Image.Resampling.NEAREST))
