"""Where the time of an edit goes: `python -m benchmarks.inside`.

For one DiffEdit edit and one of StyleDiffusion: the share of wall time inside the models, measured by hooks around
their calls that wait for the GPU; then the functions that took most of the rest, by their own time. The profiler is off
inside the models. What a function does after it has called a model is not attributed to it.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.diffedit_speed import Settings, edit_here
from benchmarks.options import add_count, add_model, add_size, opened, parser_of
from benchmarks.sd15 import side_of
from benchmarks.stylediffusion_editing import STEPS, edits_here
from benchmarks.tasks import Task, barely_learned, recolouring
from benchmarks.timing import spread, synchronize
from semantic_edit.options import add_dtype
from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline

PARTS = ("UNet", "VAE", "text encoder", "mapping networks")
HEADER = (
    "| one edit | seconds | "
    + " | ".join(PARTS)
    + " | rest | UNet and VAE |\n"
    + "| --- " * (len(PARTS) + 4)
    + "|"
)
REST_HEADER = "| outside the models | calls | own time, ms |\n| --- | --- | --- |"

Modules = Mapping[str, Sequence[nn.Module]]


@dataclass(frozen=True)
class Edit:
    """An edit to examine, and the models that it calls, by part; none is inside another."""

    what: str
    run: Callable[[], object]
    modules: Modules


def modules_of(pipe: Any, *networks: nn.Module) -> Modules:
    """By part."""
    vae = pipe.vae
    halves = (
        vae.encoder,
        vae.quant_conv,
        vae.post_quant_conv,
        vae.decoder,
    )  # its own methods cannot be hooked
    return {
        "UNet": [pipe.unet],
        "VAE": [half for half in halves if half is not None],
        "text encoder": [pipe.text_encoder],
        "mapping networks": list(networks),
    }


@contextmanager
def around(module: nn.Module, enter: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """In the block, call `enter` and `leave` around each call of a module, outside all other hooks."""
    with ExitStack() as stack:
        before = module.register_forward_pre_hook(lambda *_: enter(), prepend=True)
        stack.callback(before.remove)
        after = module.register_forward_hook(lambda *_: leave())
        stack.callback(after.remove)
        yield


class _Stopwatch:
    seconds = 0.0

    def start(self) -> None:
        synchronize()
        self.started = time.perf_counter()

    def stop(self) -> None:
        synchronize()
        self.seconds += time.perf_counter() - self.started


def seconds_inside(edit: Edit) -> tuple[float, dict[str, float]]:
    """The seconds of one run: of the whole, and of each part."""
    watches = {part: _Stopwatch() for part in edit.modules}
    whole = _Stopwatch()
    with ExitStack() as stack:
        for part, modules in edit.modules.items():
            for module in modules:
                stack.enter_context(around(module, watches[part].start, watches[part].stop))
        whole.start()
        edit.run()
        whole.stop()
    return whole.seconds, {part: watch.seconds for part, watch in watches.items()}


def shares(edit: Edit, repeats: int) -> str:
    """A line of the table: medians and ranges over several runs, after a warm-up."""
    edit.run()
    runs = [seconds_inside(edit) for _ in range(repeats)]
    cells = [_percent([parts[part] / whole for whole, parts in runs]) for part in PARTS]
    rest = _percent([1 - sum(parts.values()) / whole for whole, parts in runs])
    inside = _percent([(parts["UNet"] + parts["VAE"]) / whole for whole, parts in runs])
    return f"| {edit.what} | {spread([whole for whole, _ in runs])} | {' | '.join(cells)} | {rest} | **{inside}** |"


def _percent(fractions: list[float]) -> str:
    hundredths = [100 * one for one in fractions]
    if statistics.median(hundredths) == 0:
        return "-"
    return f"{statistics.median(hundredths):.1f} % ({min(hundredths):.1f} to {max(hundredths):.1f})"


def rest(edit: Edit, top: int) -> list[str]:
    """Lines of a table: the functions that took longest outside the models in one run, and their sum."""
    profiler = cProfile.Profile()
    with ExitStack() as stack:
        for modules in edit.modules.values():
            for module in modules:
                stack.enter_context(around(module, profiler.disable, profiler.enable))
        stack.callback(profiler.disable)
        profiler.enable()
        edit.run()
    stats: dict[tuple[str, int, str], Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    own = {
        place: (calls, seconds) for place, (_, calls, seconds, *_) in stats.items() if __file__ not in place
    }
    longest = sorted(own, key=lambda place: own[place][1], reverse=True)[:top]
    rows = [(_name(place), *own[place]) for place in longest]
    rows.append(
        (f"all, {edit.what}", sum(one[0] for one in own.values()), sum(one[1] for one in own.values()))
    )
    return [f"| {name} | {calls} | {1000 * seconds:.1f} |" for name, calls, seconds in rows]


def _name(place: tuple[str, int, str]) -> str:
    file, number, function = place
    return f"`{function}`" if file == "~" else f"`{'/'.join(Path(file).parts[-2:])}:{number} {function}`"


def editor_of(pipe: StyleDiffusionPipeline) -> DiffEditPipeline:
    """A DiffEdit pipeline with the same modules, without progress bars."""
    editor = DiffEditPipeline(**pipe.components, requires_safety_checker=False)
    editor.set_progress_bar_config(disable=True)
    return editor


def edits(pipe: StyleDiffusionPipeline, task: Task, settings: Settings, steps: int) -> list[Edit]:
    """One edit by each method: DiffEdit's with its settings, StyleDiffusion's with `steps` steps."""
    editor = editor_of(pipe)
    network = barely_learned(pipe, task, steps)
    side, own = (
        f"{task.image.width} px",
        f"S = {settings.num_inference_steps}, n = {settings.num_maps_per_mask}",
    )
    return [
        Edit(f"DiffEdit, {side}, {own}", partial(edit_here, editor, task, settings), modules_of(editor)),
        Edit(
            f"StyleDiffusion, {side}, S = {steps}",
            partial(edits_here, pipe, network, task.prompts),
            modules_of(pipe, network),
        ),
    ]


def main() -> None:
    parser = parser_of(__doc__, repeats=5)
    add_model(parser)
    add_dtype(parser)
    add_size(parser)
    add_count(parser, "--top", 10, "number of functions to list")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "The learning did not converge")  # nothing was to be learned
    pipe = opened(StyleDiffusionPipeline, options, options.dtype)
    settings = Settings.affordable(options.model, pipe.device)
    steps = STEPS if settings == Settings() else settings.num_inference_steps
    looked_into = edits(pipe, recolouring(options.size or side_of(options.model)), settings, steps)
    print(HEADER)
    for edit in looked_into:
        print(shares(edit, options.repeats), flush=True)
    for edit in looked_into:
        print("\n" + REST_HEADER + "\n" + "\n".join(rest(edit, options.top)), flush=True)
    print(f"\n{torch.get_num_threads()} threads; medians (ranges) of {options.repeats} runs")


if __name__ == "__main__":
    main()
