"""Measure this package on a GPU in a few minutes: `python -m benchmarks.on_gpu --out FOLDER`. See docs/gpu.md."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.compiling import compiling
from benchmarks.on_gpu.diffedit import diffedit
from benchmarks.on_gpu.evaluations import evaluations
from benchmarks.on_gpu.families import families
from benchmarks.on_gpu.report import Figure, Report
from benchmarks.on_gpu.shares import shares
from benchmarks.on_gpu.styles import learning, restyling
from benchmarks.on_gpu.swaps import swaps
from benchmarks.on_gpu.training import PICTURES, training
from benchmarks.on_gpu.waits import waits
from semantic_edit.loading import quiet_loading

# in the order in which they run, with the most seconds that each may take
SECTIONS: dict[str, tuple[Callable[[Bench], Iterator[Figure]], float]] = {
    "evaluations": (evaluations, 40),
    "diffedit": (diffedit, 70),
    "waits": (waits, 15),
    "shares": (shares, 40),
    "swaps": (swaps, 20),
    "learning": (learning, 110),
    "restyling": (restyling, 60),
    "families": (families, 90),
    "compiling": (compiling, 150),
}


class OutOfTime(Exception):
    """A section has used up its seconds."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """In the block, raise `OutOfTime` after some seconds."""

    def ring(*_: object) -> None:
        raise OutOfTime(f"stopped after its {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_section(report: Report, name: str, found: Callable[[], Iterator[Figure]], seconds: float) -> None:
    """Record the figures of one section until it ends, fails or runs out of time; the report is written in any case."""
    started = time.monotonic()
    report.say(f"{name}: at most {seconds:.0f} s")
    try:
        if seconds < 1:
            raise OutOfTime("no time was left for it")
        with at_most(seconds):
            for figure in found():
                report.add(name, figure)
    except Exception:
        report.failures[name] = traceback.format_exc()
        report.say(f"{name} did not end:\n{report.failures[name]}")
    report.seconds[name] = round(time.monotonic() - started, 1)
    report.write()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def gpu_is_lost() -> bool:
    """Whether an error made the GPU unusable for this process, as an illegal address does."""
    try:
        if torch.cuda.is_available():
            torch.ones(1, device="cuda").add(1).item()
    except RuntimeError:
        return True
    return False


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--minutes", type=float, default=6, help="the time for all sections")
    parser.add_argument(
        "--train", action="store_true", help="then train the still-life model for the remaining time"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=PICTURES,
        help="images to render for that, at 50 ms each on every core",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--quick", action="store_true", help="use tiny settings, only to see that everything runs"
    )
    parser.add_argument("--resume", action="store_true", help="add to the results in the folder")
    parser.add_argument("--tests", type=Path, help="what pytest printed, for the summary")
    options = parser.parse_args(arguments)
    ends = time.monotonic() + 60 * options.minutes
    quiet_loading()
    warnings.filterwarnings("ignore", ".*StableDiffusionDiffEditPipeline.*")
    bench = Bench(torch.device(options.device), options.quick)
    report = Report.read(options.out / "gpu.json") if options.resume else Report(options.out, bench.machine())
    if options.tests and options.tests.exists():
        report.tests = options.tests.read_text().splitlines()[-60:]
    report.say(json.dumps(report.machine))
    for number, name in enumerate(options.sections):
        section, seconds = SECTIONS[name]
        run_section(report, name, partial(section, bench), min(seconds, ends - time.monotonic()))
        if gpu_is_lost():
            left = (ends - time.monotonic()) / 60
            rest = options.sections[number + 1 :]
            again = [*sys.argv[1:], "--resume", "--minutes", f"{left:.2f}", "--sections", *rest]
            report.say("the GPU is lost to this process: going on in a new one")
            os.execv(sys.executable, [sys.executable, "-m", "benchmarks.on_gpu", *again])
    if options.train:
        left = ends - time.monotonic()
        few = {"pilot": 1} if options.quick else {}
        run = partial(training, options.out / "still-life", 0.9 * left, options.pictures, **few)
        run_section(report, "training", run, left)
    report.write()
    print(report.table)


if __name__ == "__main__":
    main()
