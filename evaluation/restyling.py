"""Compare StyleDiffusion with SDEdit, DDIM + word swap and NTI + P2P on unseen still lifes.

    python -m semantic_edit.evaluation.restyling --out runs/restyling

learns every picture, turns every method's own knob, and writes a line for each result to results.jsonl as soon as it is
known: called again with the same folder, it goes on where it was. In the end there are results.md with all tables,
curves.csv, gaps.csv and reconstructions.csv for programs, and for each method a grid of pictures to look at.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from semantic_edit.evaluation.measuring import Cases
from semantic_edit.evaluation.report import (
    curves_in_markdown,
    draw_grids,
    gaps_in_markdown,
    reconstructions_in_markdown,
    write_report,
)
from semantic_edit.evaluation.rows import Rows
from semantic_edit.evaluation.running import Comparison, run_sweeps
from semantic_edit.evaluation.sweeps import (
    Sweep,
    ablation_sweeps,
    baseline_sweeps,
    published_sweeps,
    style_sweeps,
)
from semantic_edit.evaluation.tables import curve_table, gap_table, reconstruction_table, write_csv
from semantic_edit.pipelines.checks import model_fingerprint
from semantic_edit.still_life import model_path
from semantic_edit.still_life.cases import EDIT_KINDS
from semantic_edit.still_life.judge import load_judge

METHODS = {
    "sdedit": "SDEdit",
    "word-swap": "DDIM + word swap",
    "nti": "NTI + P2P",
    "stylediffusion": "StyleDiffusion",
}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    options = _parser().parse_args(arguments)
    sweeps = _chosen_sweeps(options)
    pipe = StableDiffusionPipeline.from_pretrained(options.model)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu").set_progress_bar_config(disable=True)
    comparison = Comparison(
        pipe=pipe,
        judge=load_judge(),
        cases=Cases(tuple(options.kinds), options.count, options.seed, options.split),
        rows=Rows(options.out / "results.jsonl"),
        identity={
            "model": model_fingerprint(pipe.unet),
            "split": options.split,
            "seed": options.seed,
        },
        folder=options.out,
        batch=options.batch,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The learning did not converge")  # the table says how near it came
        run_sweeps(comparison, [sweep for group in sweeps.values() for sweep in group], _say)
    print(write_tables(comparison, sweeps))


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m semantic_edit.evaluation.restyling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=str(model_path()), help="a folder with a still-life model")
    parser.add_argument("--out", type=Path, default=Path("runs/restyling"))
    parser.add_argument("--count", type=int, default=32, help="pictures, and edits of each kind")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--kinds", nargs="+", choices=EDIT_KINDS, default=("object", "colour"))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument(
        "--ablations",
        action="store_true",
        help="also without the attention loss, with the other variant, and with P2P in place of P2Plus",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="also reconstruct by the published schedule, at eleven times the cost",
    )
    parser.add_argument("--steps", type=int, default=30, help="of every method's schedule")
    parser.add_argument("--points", type=int, help="settings of each knob, to try the command out")
    parser.add_argument("--batch", type=int, default=8, help="pictures that learn side by side")
    parser.add_argument("--seed", type=int, default=1, help="which pictures and edits are drawn")
    return parser


def _chosen_sweeps(options: argparse.Namespace) -> dict[str, list[Sweep]]:
    """Sweeps by the part that they play."""
    named = {METHODS[name] for name in options.methods}
    has_style = METHODS["stylediffusion"] in named
    chosen = {
        "style": style_sweeps(options.steps) if has_style else (),
        "baselines": [one for one in baseline_sweeps(options.steps) if one.name in named],
        "ablations": ablation_sweeps(options.steps) if options.ablations else (),
        "published": published_sweeps(options.steps) if options.published else (),
    }
    return {part: [one.thinned(options.points) for one in group] for part, group in chosen.items()}


def write_tables(comparison: Comparison, sweeps: dict[str, list[Sweep]]) -> str:
    """Write the files that the results come to, and return the tables in Markdown."""
    everything = [sweep for group in sweeps.values() for sweep in group]
    curves = curve_table(comparison, everything)
    gaps = gap_table(comparison, sweeps["style"], sweeps["baselines"])
    ablated = gap_table(comparison, sweeps["ablations"], sweeps["style"][:1])
    reconstructions = reconstruction_table(comparison, everything)
    write_csv(comparison.folder / "curves.csv", curves)
    write_csv(comparison.folder / "gaps.csv", [*gaps, *ablated])
    write_csv(comparison.folder / "reconstructions.csv", reconstructions)
    draw_grids(comparison, everything)
    return write_report(
        comparison.folder / "results.md",
        (
            ("Reconstruction", reconstructions, reconstructions_in_markdown),
            ("Trade-off curves, with bootstrap 95 % intervals", curves, curves_in_markdown),
            ("Background at equal success", gaps, gaps_in_markdown),
            ("Ablations at the success of StyleDiffusion's default", ablated, gaps_in_markdown),
        ),
    )


if __name__ == "__main__":
    main()
