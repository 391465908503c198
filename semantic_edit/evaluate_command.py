"""`semantic-edit evaluate`: compare methods over many images, resumably, in tables, curves and grids."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semantic_edit.files import UsageError, check_folder
from semantic_edit.loading import (
    check_image_encoder,
    check_model_choice,
    load_image_encoder,
    load_pipeline,
    quiet_loading,
)
from semantic_edit.names import EDIT_KINDS, LAYOUTS, ON_BAD, SPLITS, STILL_LIFE
from semantic_edit.options import (
    add_image_encoder,
    add_model,
    count,
    count_or_none,
    model_choice,
    seed,
    size,
    steps,
)
from semantic_edit.terminal import say

if TYPE_CHECKING:
    from semantic_edit.datasets import EditItem
    from semantic_edit.evaluation.sweeps import Sweep

WORDS = {
    "num_inference_steps": "--steps",
    "pipe": "the model",
    "image_encoder": "image encoder",
    "feature_extractor": "feature extractor",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the results; a comparison that is already there is continued",
    )
    _add_data(parser.add_argument_group("data"))
    _add_methods(parser.add_argument_group("methods"))
    add_model(parser)
    add_image_encoder(parser)


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data",
        default=STILL_LIFE,
        metavar="FOLDER",
        help="images with prompts, PIE-Bench, ImageNet or COCO (default: still lifes, whose perfect edits are known)",
    )
    group.add_argument("--layout", choices=LAYOUTS, help="layout of --data, if it cannot be recognised")
    group.add_argument(
        "--count", type=count, metavar="N", help="number of images (default: 32 still lifes, otherwise all)"
    )
    group.add_argument(
        "--kinds",
        nargs="+",
        choices=EDIT_KINDS,
        help="kinds of edits, for still lifes (default: object colour)",
    )
    group.add_argument("--split", choices=SPLITS, help="which still lifes (default: test)")
    group.add_argument(
        "--on-bad",
        choices=ON_BAD,
        help="what to do about rows and images that cannot be used (default: fail)",
    )
    group.add_argument("--size", type=size, metavar="WxH", help="resize the images, for example to 512x512")


def _add_methods(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="methods to compare (default: all that the model can run; see --list)",
    )
    group.add_argument("--list", action="store_true", help="list the methods and metrics, and exit")
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="metrics to compute (default: all that need no other weights)",
    )
    group.add_argument(
        "--points",
        type=count,
        metavar="N",
        help="try at most this many settings of each method; with 1, only its default",
    )
    group.add_argument(
        "--steps",
        type=steps,
        metavar="N",
        help="number of steps of every method (default: each method's own)",
    )
    group.add_argument(
        "--seed", type=seed, default=0, help="seed of the still lifes and of all noise (default: 0)"
    )
    group.add_argument(
        "--batch", type=count, default=8, metavar="N", help="number of images prepared together (default: 8)"
    )
    group.add_argument(
        "--shown",
        type=count_or_none,
        default=6,
        metavar="N",
        help="number of images in the grids (default: 6)",
    )
    group.add_argument("--curves", action="store_true", help="also draw trade-off curves; needs matplotlib")


def run(options: argparse.Namespace) -> None:
    """Compare editing methods. To continue an interrupted comparison, repeat the command with the same folder."""
    if not options.list:
        _check_typed(options)
    quiet_loading()
    from semantic_edit.evaluation.sweeps import METHODS

    if options.list:
        _list(METHODS)
        return
    names = options.methods or list(METHODS)
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise UsageError(f"--methods {', '.join(unknown)}: choose from {', '.join(METHODS)}")
    _evaluate(options, [_sweep(options, name) for name in names])


def _check_typed(options: argparse.Namespace) -> None:
    """Raise if an option cannot be used, before anything slow is imported."""
    if options.out is None:
        raise UsageError("choose a folder for the results with --out; only --list needs none")
    check_folder(
        "--out", options.out, lambda folder: any(folder.glob("results*.jsonl")), "results of this command"
    )
    if _is_still_life(options):
        if options.size is not None:
            raise UsageError(
                "--size cannot be used with still lifes, which have the size of their perfect edits"
            )
        if options.on_bad is not None:
            raise UsageError("--on-bad has no effect with still lifes, all of which can be used")
    else:
        idle = [name for name in ("kinds", "split") if getattr(options, name) is not None]
        if idle:
            raise UsageError(f"--{idle[0]} is only for still lifes; leave it out with --data {options.data}")
        if not Path(options.data).is_dir():
            raise UsageError(f"--data {options.data} is neither '{STILL_LIFE}' nor a folder")
    check_model_choice(model_choice(options))
    check_image_encoder(options.image_encoder)


def _is_still_life(options: argparse.Namespace) -> bool:
    return options.data == STILL_LIFE and options.layout is None


def _list(methods: dict[str, Any]) -> None:
    from semantic_edit.evaluation.measuring import LATENTS_OUTSIDE, OF_MASKS
    from semantic_edit.evaluation.metrics import ALWAYS, JUDGE, OPTIONAL, SET_METRICS

    say(f"methods: {' '.join(methods)}")
    say(f"metrics: {' '.join((JUDGE, *ALWAYS))}")
    say(f"metrics of methods that find a mask: {' '.join(OF_MASKS)}")
    say(f"metrics of methods whose latents are known: {LATENTS_OUTSIDE}")
    say(f"metrics that need other weights: {' '.join(OPTIONAL)}")
    say(f"metrics of all edits together: {' '.join(SET_METRICS)}")


def _sweep(options: argparse.Namespace, name: str) -> Sweep:
    from semantic_edit.evaluation.sweeps import sweep_of

    changes: dict[str, object] = {}
    if options.steps is not None:
        changes["num_inference_steps"] = options.steps
    if name == "flexit" and options.model is None:
        changes["text_is_projected"] = True  # the still-life model's CLIP is
    return sweep_of(name, **changes).thinned(options.points)


def _evaluate(options: argparse.Namespace, sweeps: list[Sweep]) -> None:
    import warnings

    from semantic_edit.batch.folder import working_in
    from semantic_edit.batch.team import join_team
    from semantic_edit.evaluation.evaluate import check_sweeps, comparison_of, evaluate
    from semantic_edit.evaluation.metrics import MetricUnavailable

    team = join_team(on_cpu=(options.device or "").startswith("cpu"))
    options.device = options.device or team.device
    tell = say if team.leads else _say_nothing
    try:
        items = _items(options)
        vision = load_image_encoder(options.image_encoder, options.offline)
        pipe = load_pipeline(None, model_choice(options), **vision)
        pipe.set_progress_bar_config(disable=True)
        sweeps = _runnable(sweeps, pipe, tell if options.methods is None else None)
        check_sweeps(pipe, sweeps)
        with working_in(options.out, team), warnings.catch_warnings():
            comparison = comparison_of(
                pipe,
                items,
                options.out,
                options.metrics,
                options.size,
                seed=options.seed,
                batch=options.batch,
                shown=options.shown,
                skips=options.on_bad == "skip",
                team=team,
            )
            # the table says how close it came
            warnings.filterwarnings("ignore", "The learning did not converge")
            warnings.filterwarnings("ignore", "The mask")
            report = evaluate(comparison, sweeps, tell, options.curves)
        for line in report.splitlines():
            say(line)
    except (ValueError, FloatingPointError, MetricUnavailable, TimeoutError) as error:
        raise UsageError(error) from error


def _say_nothing(line: object) -> None:
    """What another process than the first says."""


def _runnable(sweeps: list[Sweep], pipe: Any, tell: Callable[[str], None] | None) -> list[Sweep]:
    """The sweeps that a model can run; with `tell`, the others are told and left out instead of raising."""
    able = []
    for sweep in sweeps:
        try:
            sweep.default.check(pipe)
        except ValueError as error:
            if tell is None:
                raise
            tell(f"skipping {sweep.name}: {error}")
        else:
            able.append(sweep)
    if not able:
        raise ValueError("This model can run none of the methods.")
    return able


def _items(options: argparse.Namespace) -> list[EditItem]:
    """The edits to run; for still lifes, every kind of edit of each image."""
    from semantic_edit.datasets import open_dataset
    from semantic_edit.evaluation.evaluate import resized_item

    if _is_still_life(options):
        given = {
            "count": options.count or 32,
            "seed": options.seed,
            "split": options.split or "test",
        }
        kinds = options.kinds or ("object", "colour")
        return [item for kind in kinds for item in open_dataset(STILL_LIFE, kinds=(kind,), **given)]
    items = open_dataset(options.data, options.layout, on_bad=options.on_bad or "fail")
    groups = list(dict.fromkeys(item.group for item in items))[: options.count]
    kept = [item for item in items if item.group in set(groups)]
    return kept if options.size is None else [resized_item(item, options.size) for item in kept]
