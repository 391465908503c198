"""What it costs to check for NaN after every stage: `python -m benchmarks.finite_checks`.

Times DiffEdit's default edit and one of StyleDiffusion, each with and without the checks, in turns; then the part of
an edit's time that is spent inside the checks. On a GPU that part includes the time that they wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from benchmarks.diffedit_speed import Settings, edit_here
from benchmarks.inside import editor_of
from benchmarks.options import add_model, opened, parser_of
from benchmarks.sd15 import side_of
from benchmarks.stylediffusion_editing import edits_here
from benchmarks.tasks import barely_learned, recolouring
from benchmarks.timing import ratios, seconds_of, spread, take_turns
from semantic_edit.editing.finite import FiniteWatch
from semantic_edit.options import add_dtype
from semantic_edit.pipelines import StyleDiffusionPipeline


@contextmanager
def replaced(make: Callable[[Any], Any]) -> Iterator[None]:
    """In the block, replace the methods of the checks by what `make` returns for each."""
    with (
        patch.object(FiniteWatch, "see", make(FiniteWatch.see)),
        patch.object(FiniteWatch, "check", make(FiniteWatch.check)),
    ):
        yield


def without_checks(run: Callable[[], object]) -> None:
    """Run without any check."""
    with replaced(lambda _: lambda *_: None):
        run()


@contextmanager
def timed_checks() -> Iterator[list[float]]:
    """In the block, collect the seconds that each call of a check takes."""
    seconds: list[float] = []

    def timed(method: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            started = time.perf_counter()
            method(*arguments)
            seconds.append(time.perf_counter() - started)

        return run

    with replaced(timed):
        yield seconds


def line(what: str, run: Callable[[], object], repeats: int) -> str:
    """A line of the table."""
    run()
    taken = take_turns({"with": run, "without": partial(without_checks, run)}, repeats)
    with timed_checks() as inside:
        whole = sum(seconds_of(run) for _ in range(repeats))
    ratio = spread(ratios(taken["with"], taken["without"]), digits=3)
    return f"| {what} | {spread(taken['with'])} s | {ratio} | {100 * sum(inside) / whole:.2f} % |"


def main() -> None:
    parser = parser_of(__doc__, repeats=10)
    add_model(parser)
    add_dtype(parser)
    options = parser.parse_args()
    pipe = opened(StyleDiffusionPipeline, options, options.dtype)
    editor, task = editor_of(pipe), recolouring(side_of(options.model) or 128)
    settings = Settings.affordable(options.model, pipe.device).by_default()
    network = barely_learned(pipe, task, settings.num_inference_steps)
    print("| one edit | with the checks | times as long as without | inside the checks |")
    print("| --- | --- | --- | --- |")
    print(line("DiffEdit", lambda: edit_here(editor, task, settings), options.repeats))
    print(line("StyleDiffusion", lambda: edits_here(pipe, network, task.prompts[:1]), options.repeats))


if __name__ == "__main__":
    main()
