"""The comparison's tables in Markdown, and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from semantic_edit.evaluation.grids import picture_grid
from semantic_edit.evaluation.running import Comparison
from semantic_edit.evaluation.sweeps import Sweep
from semantic_edit.evaluation.tables import MEASURES, Tabled

Line = dict[str, str | float | None]


def _number(value: str | float | None, digits: int) -> str:
    return "-" if value is None else f"{float(value):.{digits}f}"


def _with_interval(line: Line, name: str, digits: int) -> str:
    low, high = (_number(line[f"{name}_{end}"], digits) for end in ("low", "high"))
    return f"{_number(line[name], digits)} [{low}, {high}]"


def _markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def curves_in_markdown(table: Tabled) -> str:
    """One table for each kind of edit; a paper's or code's own setting is bold."""
    digits = {"nearest": 2, "judge": 2, "background": 1, "structure": 1}
    parts = []
    for kind in dict.fromkeys(line["edits"] for line in table):
        lines = [line for line in table if line["edits"] == kind]
        cells = [
            [
                str(line["method"]),
                f"{line['knob']} {_marked(str(line['setting']), bool(line['default']))}",
                *(_with_interval(line, name, digits[name]) for name in MEASURES),
            ]
            for line in lines
        ]
        title = f"### {kind} edits, n = {lines[0]['n']} of {lines[0]['pictures']} pictures\n"
        parts.append(f"{title}\n{_markdown(['method', 'setting', *MEASURES.values()], cells)}")
    return "\n".join(parts)


def _marked(setting: str, is_default: bool) -> str:
    return f"**{setting}**" if is_default else setting


def gaps_in_markdown(table: Tabled) -> str:
    """What a curve gains on each baseline where both succeed equally often."""
    header = [
        "edits",
        "success by",
        "at the success of",
        "",
        "its background, dB",
        "method",
        "difference, dB",
        "n",
    ]
    cells = [
        [
            str(line["edits"]),
            str(line["success_by"]),
            str(line["baseline"]),
            _number(line["success"], 2),
            _number(line["background"], 1),
            str(line["method"]),
            _difference(line),
            str(line["n"]),
        ]
        for line in table
    ]
    return _markdown(header, cells)


def _difference(line: Line) -> str:
    if line["difference"] is None:
        return f"succeeds at most {_number(line['best_success'], 2)}"
    found = f"{float(line['difference']):+.1f}"
    if line["difference_low"] is None or line["difference_high"] is None:
        return found
    return f"{found} [{float(line['difference_low']):+.1f}, {float(line['difference_high']):+.1f}]"


def reconstructions_in_markdown(table: Tabled) -> str:
    """What a preparation gives back, and what it took."""
    header = [
        "method",
        "PSNR to the VAE's picture, dB",
        "worst",
        "dB below the VAE's own PSNR",
        "most",
        "within 1 dB",
        "backward evaluations",
        "most",
        "seconds a picture",
        "in batches of",
        "n",
    ]
    cells = [
        [
            str(line["method"]),
            _with_interval(line, "to_vae", 1),
            _number(line["to_vae_worst"], 1),
            _number(line["lost"], 2),
            _number(line["lost_worst"], 2),
            f"{100 * float(line['within_1_db'] or 0):.0f} %",
            _number(line["backward_evaluations"], 0),
            _number(line["backward_evaluations_most"], 0),
            _number(line["seconds"], 1),
            _number(line["batch"], 0),
            str(line["n"]),
        ]
        for line in table
    ]
    return _markdown(header, cells)


def draw_grids(comparison: Comparison, sweeps: Sequence[Sweep]) -> None:
    """For each sweep a picture: a row an edit, with the source, its reconstruction, the edits and the perfect edit."""
    for sweep in sweeps:
        cells: list[Image.Image] = []
        words: list[str] = []
        for kind in comparison.cases.kinds if sweep.points else ():
            for number in range(min(comparison.shown, comparison.cases.count)):
                case = comparison.cases.case(kind, number)
                paths = [
                    comparison.picture_path(comparison.reconstruction_key(_first(sweeps, sweep), number))
                ]
                paths += [
                    comparison.picture_path(comparison.edit_key(method, kind, number))
                    for _, method in sweep.points
                ]
                cells += [case.image, *(_opened(path, case.image.size) for path in paths), case.target_image]
                words.append(f"{case.source_prompt} -> {case.prompt}")
        if cells:
            name = "".join(letter if letter.isalnum() else "-" for letter in sweep.name.lower())
            picture_grid(cells, columns=3 + len(sweep.points)).save(comparison.folder / f"{name}.png")
            settings = ", ".join(label for label, _ in sweep.points)
            columns = f"source, reconstruction, {sweep.knob} {settings}, perfect edit"
            (comparison.folder / f"{name}.txt").write_text("\n".join([columns, *words]) + "\n")


def _first(sweeps: Sequence[Sweep], sweep: Sweep) -> Sweep:
    """The sweep in whose name the preparation was measured."""
    return next(one for one in sweeps if one.default.preparation == sweep.default.preparation)


def _opened(path: Path, size: tuple[int, int]) -> Image.Image:
    return Image.open(path).convert("RGB") if path.exists() else Image.new("RGB", size, "white")


def write_report(path: Path, sections: Sequence[tuple[str, Tabled, Callable[[Tabled], str]]]) -> str:
    """Every section that has lines, under its title; what was written."""
    parts = [f"## {title}\n\n{as_markdown(table)}" for title, table, as_markdown in sections if table]
    text = "\n".join(parts)
    path.write_text(text, encoding="utf-8")
    return text
