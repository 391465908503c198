"""What a batch costs beside its networks, how it grows with processes, and what a million edits would take.

`python -m benchmarks.batch overhead` times the same rows through a batch and through bare calls of the pipeline, by CPU
seconds and by wall seconds, in turns, and what a batch costs without any edit. `scaling` runs one process of one thread
and two of them, in turns. `memory` follows the memory of one process over many rows. `startup` is what a process costs
before its first row. `plan` computes a million SDXL edits from measured parts. Without a name, all of them run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.timing import ratios, spread
from semantic_edit.batch.diffedit import DiffEditor, EditedRow
from semantic_edit.batch.folder import open_left_out, open_store
from semantic_edit.batch.results import RESULTS, ResultsFile
from semantic_edit.batch.running import Work, run_rows
from semantic_edit.batch.sources import DataChoice, open_source
from semantic_edit.batch.status import Status
from semantic_edit.batch.team import ALONE
from semantic_edit.loading import load_pipeline, quiet_loading
from semantic_edit.still_life.cases import edit_cases

LAUNCH = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"),
    *("--dynamo_backend", "no", "--main_process_port", "0"),
)
# measured on an H100 in bfloat16 (docs/gpu.md): seconds of an edit of 38 evaluations, alone and of four in one call
ALONE_SECONDS, OF_FOUR_SECONDS = 2.07, 4.31 / 4
ALONE_GIB, FOUR_GIB, WEIGHTS_GIB, CARD_GIB = 5.0, 16.3, 6.5, 79.0


def write_table(folder: Path, count: int, pictures: int | None = None) -> Path:
    """A table of still lifes with one edit each; with fewer pictures than rows, copies of them under other names."""
    cases = edit_cases(pictures or count, seed=3, kinds=("colour",), objects=1)
    with open(folder / "edits.jsonl", "w") as table:
        for number in range(count):
            case = cases[number % len(cases)]
            case.image.save(folder / f"{number}.png")
            row = {"image": f"{number}.png", "source_prompt": case.source_prompt, "prompt": case.prompt}
            table.write(json.dumps(row) + "\n")
    return folder / "edits.jsonl"


class Idle(DiffEditor):
    """Edits nothing: what is left is what a batch does besides."""

    def run(self, units: Any) -> Any:
        return [[EditedRow(row, image) for row in unit.rows] for unit, image in units]


def batch_of(table: Path, out: Path, editor: DiffEditor) -> None:
    """Run a table in this process."""
    out.mkdir()
    ledger, store = open_store(out, ALONE, sharded=False)
    work = Work(
        source=open_source(DataChoice(str(table)), "diffedit", ALONE),
        team=ALONE,
        editor=editor,
        store=store,
        results=ResultsFile(out / RESULTS),
        left_out=open_left_out(out, ALONE),
        ledger=ledger,
    )
    run_rows(work, Status())


def bare_calls(table: Path, pipe: Any, options: dict[str, Any]) -> None:
    """The same rows by calls of the pipeline, and nothing written."""
    rows = [*open_source(DataChoice(str(table)), "diffedit", ALONE).read()]
    for row in rows:
        pipe(
            image=[row.picture.read()],  # type: ignore[union-attr]
            prompt=[row.prompt],  # type: ignore[union-attr]
            source_prompt=[row.source_prompt],  # type: ignore[union-attr]
            generator=[torch.Generator().manual_seed(row.seed_under(0))],  # type: ignore[union-attr]
            **options,
        )


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of this process and wall seconds of a call."""
    started, cpu = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - cpu, time.perf_counter() - started


def overhead(count: int, repeats: int) -> None:
    """A batch against bare calls of the pipeline, one row a call."""
    pipe = load_pipeline("diffedit")
    options: dict[str, Any] = {}
    pipe.set_progress_bar_config(disable=True)
    taken: dict[str, list[tuple[float, float]]] = {"bare calls": [], "batch": []}
    with tempfile.TemporaryDirectory() as name:
        table = write_table(Path(name), count)
        bare_calls(table, pipe, options)  # warm
        for repeat in range(repeats):
            taken["bare calls"].append(timed(lambda: bare_calls(table, pipe, options)))
            out = Path(name) / f"out-{repeat}"
            taken["batch"].append(timed(partial(batch_of, table, out, DiffEditor(pipe, options, most=1))))
        many = Path(name) / "many"
        many.mkdir()
        table = write_table(many, 300, pictures=count)
        runs = [
            timed(partial(batch_of, table, many / f"{one}", Idle(pipe, options, most=1)))
            for one in range(repeats)
        ]
    for kind, index in (("CPU", 0), ("wall", 1)):
        bare, whole = ([one[index] for one in taken[which]] for which in ("bare calls", "batch"))
        print(
            f"overhead: {count} rows, {kind} seconds: bare {spread(bare)}, batch {spread(whole)}, "
            f"ratio {spread(ratios(whole, bare), 3)}"
        )

    idle, row = [cpu / 300 for cpu, _ in runs], [cpu / count for cpu, _ in taken["bare calls"]]
    print(
        f"overhead: without any edit, {spread([1000 * one for one in idle], 1)} CPU ms a row, which is "
        f"{statistics.median(idle) / statistics.median(row):.2%} of a row's {statistics.median(row):.2f} CPU s"
    )


def command(table: Path, out: Path, processes: int, steps: int) -> list[str]:
    start = (
        [sys.executable] if processes == 1 else [sys.executable, *LAUNCH, "--num_processes", str(processes)]
    )
    words = ["-m", "semantic_edit", "batch", "--data", str(table), "--out", str(out)]
    return [*start, *words, "--steps", str(steps), "--batch", "1"]


def span(out: Path) -> tuple[float, float]:
    """Wall seconds from the first result to the last, and the rows in between, from the results' own times."""
    rows = [json.loads(line) for file in out.glob("results*.jsonl") for line in file.read_text().splitlines()]
    return sum(row["seconds"] for row in rows), len(rows)


def scaling(count: int, repeats: int, steps: int = 20) -> None:
    """One process of one thread against two, from the launch to the end and without the start."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        table = write_table(Path(name), count)
        few = Path(name) / "few"
        few.mkdir()
        start_table = write_table(few, 2)
        for repeat in range(repeats):
            for processes in (1, 2):
                spent = []
                for rows, data in ((2, start_table), (count, table)):
                    out = Path(name) / f"out-{repeat}-{processes}-{rows}"
                    before, started = children_cpu(), time.perf_counter()
                    subprocess.run(
                        command(data, out, processes, steps),
                        env=environment,
                        check=True,
                        stdout=subprocess.DEVNULL,
                    )
                    spent.append((time.perf_counter() - started, children_cpu() - before))
                (short, short_cpu), (long, long_cpu) = spent
                whole[processes].append((count - 2) / (long - short))
                cpu[processes].append((long_cpu - short_cpu) / (count - 2))
    print(
        f"scaling: rows a second without the start, one process {spread(whole[1], 3)}, two {spread(whole[2], 3)}, "
        f"times as fast {spread(ratios(whole[2], whole[1]))}; CPU seconds a row {spread(cpu[1])} and {spread(cpu[2])}"
    )


def children_cpu() -> float:
    """CPU seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def startup(repeats: int) -> None:
    """A process from its launch to its end with one row, and how much of it the row took."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    taken, cpu = [], []
    with tempfile.TemporaryDirectory() as name:
        table = write_table(Path(name), 1)
        for repeat in range(repeats):
            out = Path(name) / f"out-{repeat}"
            before, started = children_cpu(), time.perf_counter()
            subprocess.run(command(table, out, 1, 20), env=environment, check=True, stdout=subprocess.DEVNULL)
            row, _ = span(out)
            taken.append(time.perf_counter() - started - row)
            cpu.append(children_cpu() - before - row)
    print(f"start-up: a process before and after its rows: {spread(taken)} s, about {spread(cpu)} CPU s")


def memory(count: int) -> None:
    """The resident memory of one process over many rows, by quarters."""
    pipe = load_pipeline("diffedit")
    pipe.set_progress_bar_config(disable=True)
    seen: list[float] = []

    class Watched(DiffEditor):
        def run(self, units: Any) -> Any:
            seen.append(resident())
            return super().run(units)

    options = {"num_inference_steps": 2, "num_maps_per_mask": 1}
    with tempfile.TemporaryDirectory() as name:
        table = write_table(Path(name), count, pictures=64)
        batch_of(table, Path(name) / "out", Watched(pipe, options, most=4))
    quarters = [seen[part * len(seen) // 4 : (part + 1) * len(seen) // 4] for part in range(4)]
    means = ", ".join(f"{statistics.mean(quarter):.0f}" for quarter in quarters)
    print(f"memory: {count} rows, MiB by quarters of the rows: {means}; at most {max(seen):.0f}")


def resident() -> float:
    """Resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def plan(rows: int = 1_000_000, cards: int = 64) -> None:
    """What a million edits at 1024 pixels with SDXL take, from what was measured of single calls."""
    per_row = (FOUR_GIB - ALONE_GIB) / 3
    fits = int((CARD_GIB - WEIGHTS_GIB - ALONE_GIB) / per_row) + 1
    sizes = []
    for case in edit_cases(4, seed=3, kinds=("colour",), objects=1):
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            noisy = Image.effect_noise((1024, 1024), 20).convert("RGB")  # as little as photographs compress
            Image.blend(case.image.resize((1024, 1024)), noisy, 0.15).save(file.name)
            sizes.append(os.path.getsize(file.name))
    started = time.process_time()
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        for _ in range(4):
            noisy.save(file.name, "PNG")
    encoding = (time.process_time() - started) / 4
    size = statistics.mean(sizes)
    for name, seconds in (("one at a time", ALONE_SECONDS), ("four in a call", OF_FOUR_SECONDS)):
        hours = rows * seconds / 3600
        print(
            f"plan: {rows:,} edits of 38 evaluations, {name}: {hours:,.0f} H100 hours, {hours / cards:,.1f} hours on "
            f"{cards} cards; each writes {size / seconds / 1e6:.2f} MB/s, all {cards * size / seconds / 1e6:.0f} MB/s, "
            f"and encodes PNG for {encoding / seconds:.0%} of a core's time"
        )
    print(
        f"plan: a call of {fits} rows fits into {CARD_GIB:.0f} GiB by the measured {per_row:.1f} GiB a further row"
    )
    print(
        f"plan: {size / 1e6:.2f} MB a picture, {rows * size / 1e12:.2f} TB, "
        f"{rows / 1000:,.0f} shards; results {rows * 700 / 1e9:.1f} GB"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("overhead", "scaling", "memory", "startup", "plan")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)} (default: all)")
    parser.add_argument("--rows", type=int, default=24, help="rows of overhead and scaling")
    parser.add_argument("--many", type=int, default=2000, help="rows of memory")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    quiet_loading()
    chosen = options.parts or parts
    for part, run in {
        "overhead": lambda: overhead(options.rows, options.repeats),
        "scaling": lambda: scaling(options.rows, options.repeats),
        "memory": lambda: memory(options.many),
        "startup": lambda: startup(options.repeats),
        "plan": plan,
    }.items():
        if part in chosen:
            run()


if __name__ == "__main__":
    main()
