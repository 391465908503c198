"""The comparison's pictures: trade-off curves, and grids of edits to look at."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from semantic_edit.disk.images import as_png
from semantic_edit.evaluation.grids import image_grid
from semantic_edit.evaluation.metrics.unavailable import optional_module
from semantic_edit.evaluation.report import SCALES, TITLES
from semantic_edit.evaluation.running import Comparison
from semantic_edit.evaluation.sweeps import Sweep
from semantic_edit.evaluation.tables import BACKGROUNDS, SUCCESSES, Tabled, measures_of

# on the horizontal axis, what a method gives up; on the vertical axis, what it reaches
GIVEN_UP = (*BACKGROUNDS, "features_to_input", "lpips", "structure")
REACHED = (*SUCCESSES, "clip", "clip_score")


LOOKS = ("o-", "s--", "^:")  # the colours repeat after ten


def drawn_curves(comparison: Comparison, curves: Tabled) -> dict[str, bytes]:
    """Draw every method's curve, for each kind of edit and each pair of a measure given up and one reached.

    Args:
        comparison: The comparison.
        curves: As `curve_table` returns them.

    Returns:
        PNG files by name.

    Raises:
        MetricUnavailable: If matplotlib is not installed.
    """
    figures = optional_module("matplotlib.figure", "The figures")
    known = set(measures_of(comparison))
    files: dict[str, bytes] = {}
    for kind in dict.fromkeys(line["edits"] for line in curves):
        lines = [line for line in curves if line["edits"] == kind]
        measured = {name for name in known if any(line[name] is not None for line in lines)}
        for given_up in (name for name in GIVEN_UP if name in measured):
            for reached in (name for name in REACHED if name in measured):
                figure = figures.Figure(figsize=(7, 5), layout="constrained")
                _draw(figure.subplots(), lines, given_up, reached)
                figure.suptitle(f"{kind} edits, n = {lines[0]['n']}")
                content = io.BytesIO()
                figure.savefig(content, format="png", dpi=120)
                files[f"{_file_name(str(kind))}-{reached}-over-{given_up}.png"] = content.getvalue()
    return files


def _draw(axes: object, lines: Tabled, given_up: str, reached: str) -> None:
    for index, method in enumerate(dict.fromkeys(line["method"] for line in lines)):
        points = [
            line
            for line in lines
            if line["method"] == method and line[given_up] is not None and line[reached] is not None
        ]
        along, up = ([_scaled(line, name) for line in points] for name in (given_up, reached))
        drawn = axes.plot(  # type: ignore[attr-defined]
            along,
            up,
            LOOKS[index // 10 % len(LOOKS)],
            label=method,
            markersize=4,
        )
        for line, *place in zip(points, along, up, strict=True):
            if line["default"]:
                axes.plot(*place, "*", markersize=14, color=drawn[0].get_color())  # type: ignore[attr-defined]
    axes.set_xlabel(TITLES[given_up])  # type: ignore[attr-defined]
    axes.set_ylabel(f"{TITLES[reached]} (stars: each method's default)")  # type: ignore[attr-defined]
    axes.grid(alpha=0.3)  # type: ignore[attr-defined]
    axes.legend(fontsize=8)  # type: ignore[attr-defined]


def _scaled(line: dict[str, str | float | None], name: str) -> float:
    """A value in the unit that its title names."""
    return SCALES.get(name, 1.0) * float(line[name] or 0.0)


def drawn_grids(comparison: Comparison, sweeps: Sequence[Sweep]) -> dict[str, bytes]:
    """Draw a grid for each sweep: one row per edit, with source, reconstruction, edits and perfect edit.

    Returns:
        A PNG file and a text file with the prompts for each sweep, by name.
    """
    files: dict[str, bytes] = {}
    for sweep in (one for one in sweeps if one.points):
        rows = list(_grid_rows(comparison, sweeps, sweep))
        if not rows:
            continue
        name = _file_name(sweep.name)
        size = rows[0][1][0].size
        cells = [image.resize(size) for _, images in rows for image in images]
        files[f"{name}.png"] = as_png(image_grid(cells, columns=len(rows[0][1])))
        settings = ", ".join(label for label, _ in sweep.points)
        columns = f"source, reconstruction, {sweep.knob} {settings}, perfect edit where there is one"
        lines = [columns, *(words for words, _ in rows)]
        files[f"{name}.txt"] = ("\n".join(lines) + "\n").encode()
    return files


def _grid_rows(
    comparison: Comparison, sweeps: Sequence[Sweep], sweep: Sweep
) -> Iterator[tuple[str, list[Image.Image]]]:
    # the sweep under whose name the preparation was measured
    first = next(one for one in sweeps if one.default.preparation == sweep.default.preparation)
    for group, items in comparison.groups.items():
        for item in items if group in comparison.shown_groups else ():
            edits = [comparison.edit_key(method, item) for _, method in sweep.points]
            if all("error" in comparison.rows[key] for key in edits):
                continue  # perhaps because the picture cannot be read
            image = item.image
            keys = [comparison.reconstruction_key(first.default, group), *edits]
            paths = [comparison.image_path(key) for key in keys]
            perfect = Image.new("RGB", image.size, "white") if item.case is None else item.case.target_image
            images = [image, *(_opened(path, image.size) for path in paths), perfect]
            yield f"{item.source_prompt} -> {item.prompt}", images


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()) or "edits"


def _opened(path: Path, size: tuple[int, int]) -> Image.Image:
    return Image.open(path).convert("RGB") if path.exists() else Image.new("RGB", size, "white")
