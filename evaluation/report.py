"""The comparison's tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from semantic_edit.evaluation.metrics import SET_METRICS
from semantic_edit.evaluation.tables import Tabled

Line = dict[str, str | float | None]

TITLES = {
    "nearest": "success, nearest render",
    "judge": "success, judge",
    "leftover": "leftover",
    "psnr_to_target": "PSNR to the perfect edit, dB",
    "psnr_inside": "inside the change",
    "psnr_around": "around it",
    "seam": "seam, levels of 255",
    "ssim_to_target": "SSIM to it",
    "features_to_target": "feature distance to it",
    "clip": "CLIP agreement",
    "clip_edited": "CLIP agreement, edited region",
    "psnr_outside": "PSNR outside, dB",
    "latents_outside": "PSNR of latents outside, dB",
    "ssim_outside": "SSIM outside",
    "structure": "structure distance x 1000",
    "features_to_input": "feature distance to the input",
    "mask_iou": "mask IoU",
    "lpips": "LPIPS",
    "ns_lpips": "NS-LPIPS",
    "clip_score": "CLIP score",
    "clip_score_edited": "CLIP score, edited region",
    "dino_structure": "DINO structure distance x 1000",
    "seconds": "seconds an edit",
    "vision_fid": "Fréchet distance to the inputs, own CLIP",
    "vision_csfid": "distance to true pictures of the class, own CLIP",
    "fid": "FID to the inputs",
    "csfid": "CSFID",
}
DIGITS = {
    "psnr_to_target": 1,
    "psnr_inside": 1,
    "psnr_around": 1,
    "leftover": 3,
    "psnr_outside": 1,
    "latents_outside": 1,
    "structure": 1,
    "dino_structure": 1,
    "seconds": 1,
}
SCALES = {"structure": 1000.0, "dino_structure": 1000.0}


def _number(value: str | float | None, digits: int, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * float(value):.{digits}f}"


def _with_interval(line: Line, name: str, digits: int, scale: float = 1.0) -> str:
    low, high = (_number(line[f"{name}_{end}"], digits, scale) for end in ("low", "high"))
    return f"{_number(line[name], digits, scale)} [{low}, {high}]"


def _markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def edits_in_markdown(table: Tabled, measures: Sequence[str] | None = None) -> str:
    """One table for each kind of edit, with the default settings of each method in bold.

    Args:
        table: The lines.
        measures: Which columns of `TITLES`; by default those that have values.
    """
    wanted = [name for name in (measures or TITLES) if any(line.get(name) is not None for line in table)]
    return _by_kind(table, wanted, _cell)


def _by_kind(table: Tabled, wanted: Sequence[str], cell: Callable[[Line, str], str]) -> str:
    parts = []
    for kind in dict.fromkeys(line["edits"] for line in table):
        lines = [line for line in table if line["edits"] == kind]
        cells = [
            [
                str(line["method"]),
                f"{line['knob']} {_marked(str(line['setting']), bool(line['default']))}".strip(),
                *(cell(line, name) for name in wanted),
            ]
            for line in lines
        ]
        title = f"### {kind or 'All'} edits, n = {lines[0]['n']} of {lines[0]['pictures']} pictures\n"
        parts.append(
            f"{title}\n{_markdown(['method', 'setting', *(TITLES[name] for name in wanted)], cells)}"
        )
    return "\n".join(parts)


def sets_in_markdown(table: Tabled) -> str:
    """One table for each kind of edit; without intervals, because each figure is of a single set."""
    wanted = [name for name in SET_METRICS if any(line.get(name) is not None for line in table)]
    return _by_kind(table, wanted, lambda line, name: _number(line[name], 3))


def _cell(line: Line, name: str) -> str:
    """A mean with its interval, and its n if that differs from the table's."""
    if line.get(name) is None:
        return "-"
    shown = _with_interval(line, name, DIGITS.get(name, 2), SCALES.get(name, 1.0))
    return shown if line[f"{name}_n"] == line["n"] else f"{shown} (n {line[f'{name}_n']})"


def _marked(setting: str, is_default: bool) -> str:
    return f"**{setting}**" if is_default else setting


def gaps_in_markdown(table: Tabled) -> str:
    """What a curve gains over each baseline where both succeed equally often."""
    header = [
        "edits",
        "success by",
        "at the success of",
        "",
        "background by",
        "its background",
        "method",
        "difference, dB",
        "n",
    ]
    cells = [
        [
            str(line["edits"]),
            TITLES[str(line["success_by"])],
            str(line["baseline"]),
            _number(line["success"], 2),
            TITLES[str(line["background_by"])],
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
    """How well each preparation reproduces the pictures, and what it took."""
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


def report_of(heading: str, sections: Sequence[tuple[str, Tabled, Callable[[Tabled], str]]]) -> str:
    """Every section that has lines, under its title."""
    parts = [f"## {title}\n\n{as_markdown(table)}" for title, table, as_markdown in sections if table]
    return "\n".join([heading, *parts])
