"""`semantic-edit batch`: thousands of edits, over as many processes and machines as `accelerate launch` starts."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semantic_edit import edit_command
from semantic_edit.disk.telling import counted, in_typed_words
from semantic_edit.files import UsageError, check_folder
from semantic_edit.loading import (
    check_image_encoder,
    check_model_choice,
    load_image_encoder,
    load_pipeline,
    quiet_loading,
)
from semantic_edit.names import BATCH_FILE, BATCH_METHODS, ON_BAD, SCHEDULES, STILL_LIFE
from semantic_edit.options import (
    add_image_encoder,
    add_model,
    count,
    model_choice,
    sides,
    typed,
)
from semantic_edit.restyle_command import add_taus
from semantic_edit.terminal import complain, say

if TYPE_CHECKING:
    from semantic_edit.batch.running import Editor
    from semantic_edit.batch.sources import Source
    from semantic_edit.batch.status import Status
    from semantic_edit.batch.team import Team
    from semantic_edit.datasets.items import BadRow

BAD_ROWS = 3  # the exit code if everything else is done
_TAUS = ("tau_v", "tau_c", "tau_s", "tau_u")
_BOTH = ("steps", "guidance_scale", "negative", "mask_grow", "mask_feather")  # options that either method has
WORDS = {name: f"--{name.replace('_', '-')}" for name in ("on_bad", "columns", "images")}
OPTION_WORDS = {**edit_command.WORDS, **{name: f"--{name.replace('_', '-')}" for name in _TAUS}}
"""For messages about what was typed. Those about rows name the rows' keys, which are the pipelines' arguments."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="the rows: a .jsonl, .csv or .parquet file, a folder, or the Hub id of a dataset",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of the results; a batch that is already there is continued",
    )
    _add_data(parser.add_argument_group("data"))
    _add_running(parser.add_argument_group("running"))
    group = parser.add_argument_group("edit, where a row does not say otherwise")
    edit_command.add_method(group)
    add_taus(group)
    add_model(parser)
    add_image_encoder(parser)


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="folder that the rows' images lie in (default: the table's)",
    )
    group.add_argument(
        "--columns",
        nargs="+",
        type=_column,
        default=[],
        metavar="NAME=COLUMN",
        help="where the data has other names, for example prompt=target_prompt",
    )
    group.add_argument(
        "--split",
        default="train",
        metavar="NAME",
        help="split of a dataset that is streamed (default: train)",
    )
    group.add_argument(
        "--on-bad",
        choices=ON_BAD,
        default="fail",
        help=f"what to do about rows that cannot be used; skip ends with exit code {BAD_ROWS} (default: fail)",
    )


def _add_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--method",
        choices=BATCH_METHODS,
        default=BATCH_METHODS[0],
        help="diffedit, or learn each image once and restyle it with all its prompts (default: diffedit)",
    )
    group.add_argument(
        "--schedule", choices=SCHEDULES, help="how long to learn, for restyle (default: short)"
    )
    group.add_argument(
        "--batch",
        type=count,
        default=16,
        metavar="N",
        help="run at most this many rows together; fewer if memory is short (default: 16)",
    )
    group.add_argument("--masks", action="store_true", help="also keep the masks that diffedit finds")
    group.add_argument(
        "--shards",
        action=argparse.BooleanOptionalAction,
        help="write tar files as WebDataset reads them (default: as the folder was started; a new one for more than "
        "10,000 rows, and for streamed ones)",
    )
    group.add_argument(
        "--merge",
        action="store_true",
        help="write one table and a page to look at, at the end or, without --data, of what is there",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="only tell the rows, their sizes and the expected time, which is measured on one call",
    )


def _column(text: str) -> tuple[str, str]:
    name, _, column = text.partition("=")
    if not name or not column:
        raise argparse.ArgumentTypeError(f"a column has the form NAME=COLUMN, got {text!r}")
    return name, column


def run(options: argparse.Namespace) -> int:
    """Edit all rows of a table or a dataset. To continue an interrupted batch, repeat the command."""
    _check_typed(options)
    if options.data is None:
        return _merge(options.out)
    quiet_loading()
    from semantic_edit.batch.running import UnusableRows
    from semantic_edit.batch.team import join_team

    team = join_team(on_cpu=(options.device or "").startswith("cpu"))
    options.device = options.device or team.device
    try:
        return _rehearse(options, team) if options.dry_run else _run(options, team)
    except UnusableRows as error:
        raise UsageError(_of_rows(str(error))) from error
    except (ValueError, FloatingPointError, TimeoutError) as error:
        raise UsageError(in_typed_words(str(error), OPTION_WORDS)) from error


def _check_typed(options: argparse.Namespace) -> None:
    """Raise if an option cannot be used, before anything slow is imported."""
    if options.data is None:
        if not options.merge:
            raise UsageError("name the rows with --data, or, to only merge what is in --out, pass --merge")
        if not options.out.is_dir():
            raise UsageError(f"--out {options.out}: there is no such folder to merge")
        return
    if not options.data:
        raise UsageError("--data is empty; name a table, a folder or a dataset")
    names = [name for name, _ in options.columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--columns names {twice[0]} twice; keep one of the two")
    if options.dry_run and options.merge:
        raise UsageError("--merge has no effect with --dry-run, which writes nothing")
    of_diffedit = [name for name in edit_command.PIPELINE_OPTIONS if name not in _BOTH]
    idle = (*_TAUS, "schedule") if options.method == BATCH_METHODS[0] else (*of_diffedit, "masks")
    if wrong := [name for name in idle if getattr(options, name) not in (None, False)]:
        raise UsageError(f"--{wrong[0].replace('_', '-')} has no effect with --method {options.method}")
    if options.images is not None and not options.images.is_dir():
        raise UsageError(f"--images {options.images}: there is no such folder")
    if not options.dry_run:
        check_folder(
            "--out",
            options.out,
            lambda folder: (folder / BATCH_FILE).is_file(),
            f"results of this command with their {BATCH_FILE}",
        )
    check_model_choice(model_choice(options))
    check_image_encoder(options.image_encoder)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What was typed for the edits, by the pipelines' names."""
    names = {**edit_command.PIPELINE_OPTIONS, **{name: name for name in _TAUS}}
    return typed(options, names) | sides(options)


def _source(options: argparse.Namespace, team: Team) -> Source:
    from semantic_edit.batch.sources import DataChoice, open_source

    choice = DataChoice(options.data, options.images, dict(options.columns), options.split)
    return open_source(choice, options.method, team)


def _editor(options: argparse.Namespace) -> Editor:
    """The loaded model, and how it edits."""
    from semantic_edit.batch.options import METHODS

    vision = load_image_encoder(options.image_encoder, options.offline)
    pipe = load_pipeline(METHODS[options.method], model_choice(options), **vision)
    pipe.set_progress_bar_config(disable=True)
    edit_command.check_guidance(options, pipe)
    base = options.seed or 0
    if options.method == BATCH_METHODS[0]:
        from semantic_edit.batch.diffedit import DiffEditor

        return DiffEditor(pipe, _given(options), base, options.batch, options.masks)
    from semantic_edit.batch.restyle import Restyler
    from semantic_edit.mapping_networks import LearningSettings

    learning = getattr(LearningSettings, options.schedule or "short")()
    return Restyler(pipe, _given(options), replace(learning, seed=base), options.batch)


def _run(options: argparse.Namespace, team: Team) -> int:
    from semantic_edit.batch import folder
    from semantic_edit.batch.results import RESULTS, ResultsFile
    from semantic_edit.batch.running import Work, run_rows, survey
    from semantic_edit.batch.status import Watch
    from semantic_edit.batch.team import ALONE

    skips = options.on_bad == "skip"
    with folder.working_in(options.out, team):
        watch = Watch(options.out, team, say)
        with watch.beating():
            source = _source(options, team)
            found = survey(source, team, skips) if source.is_table else None
            watch.own.total = 0 if found is None else found.own
            _tell_ignored(source, options.method, team)
            editor = _editor(options)
            if source.is_table:
                survey(source, team, skips, editor.check)
            settings = _settings(options, editor)
            rows = None if found is None else found.rows
            sharded = folder.check_settings(options.out, settings, options.shards, rows)
            ledger, store = folder.open_store(options.out, team, sharded)
            work = Work(
                source=source,
                team=team,
                editor=editor,
                store=store,
                results=ResultsFile(options.out / RESULTS, team.index),
                left_out=folder.open_left_out(options.out, team),
                ledger=ledger,
                seed=options.seed or 0,
                told={
                    "method": settings["method"],
                    "model": settings["model"],
                    "model_name": _model_name(options),
                },
                skips=skips,
                report=_report,
            )
            run_rows(work, watch.own)
            if not source.is_table:
                _tell_ignored(source, options.method, team)
        if not team.leads:
            # the first process tells what all of them left out: another exit code would end the others
            return 0
        everyone = watch.wait()
        say(_summary(everyone))
        if options.merge:
            _merge(options.out, _source(options, ALONE))
        return BAD_ROWS if any(status.bad for status in everyone) else 0


def _settings(options: argparse.Namespace, editor: Editor) -> dict[str, Any]:
    """What every result of a batch depends on, besides its row."""
    from semantic_edit.denoisers import denoiser_of

    return {
        "method": options.method,
        "model": denoiser_of(editor.pipe).identity(),
        "dtype": str(editor.pipe.dtype).removeprefix("torch."),
        "seed": options.seed or 0,
        "options": _given(options),
        "schedule": options.schedule,
        "masks": options.masks,
    }


def _model_name(options: argparse.Namespace) -> str:
    """What people call the model, without the folders of this machine."""
    model = options.model or STILL_LIFE
    return Path(model).name if Path(model).exists() else model


def _tell_ignored(source: Source, method: str, team: Team) -> None:
    """Warn of each key that rows have and nothing reads."""
    from semantic_edit.batch.options import OPTIONS
    from semantic_edit.batch.rows import keys_of

    if not team.leads:
        return
    # keys that are called like the options that are typed
    meant = {
        **edit_command.PIPELINE_OPTIONS,
        "source": "source_prompt",
        **{key: key for key in keys_of(method)},
    }
    for key, rows in source.ignored.items():
        hint = ""
        if others := [other for other in BATCH_METHODS if key in OPTIONS[other]]:
            hint = f"; it is for --method {others[0]}"
        elif near := difflib.get_close_matches(key, meant, 1, cutoff=0.7):
            hint = f"; did you mean {meant[near[0]]}?"
        complain("warning", f"the key {key!r} of {counted(rows, 'row')} is ignored{hint}")


def _report(bad: BadRow) -> None:
    complain("warning", f"left out {_of_rows(str(bad))}")


def _of_rows(text: str) -> str:
    """A message about rows, by their keys."""
    return re.sub(r"`([a-z_]+(=[^`]*)?)`", r"\1", in_typed_words(text, WORDS))


def _summary(everyone: list[Status]) -> str:
    done, before, bad = (sum(getattr(one, name) for one in everyone) for name in ("done", "before", "bad"))
    return f"rows done: {done}, of them new: {done - before}, left out: {bad}"


def _merge(out: Path, source: Source | None = None) -> int:
    from semantic_edit.batch.merging import PAGE, TABLE, merge_results

    try:
        merged = merge_results(out, source)
    except ValueError as error:
        raise UsageError(error) from error
    say(out / TABLE)
    say(out / PAGE)
    say(f"edits: {len(merged.edits)}, rows left out: {len(merged.bad)}")
    return 0


def _rehearse(options: argparse.Namespace, team: Team) -> int:
    from semantic_edit.batch.rehearsal import rehearse
    from semantic_edit.batch.team import ALONE

    if not team.leads:
        return 0
    source = _source(options, ALONE)
    found = rehearse(source, _editor(options), lambda line: complain("warning", _of_rows(line)))
    _tell_ignored(source, options.method, team)
    for line in found.lines(team.size):
        say(line)
    if found.bad and options.on_bad == "fail":
        raise UsageError(
            f"{counted(len(found.bad), 'row')} cannot be used, and without --on-bad skip a run would do nothing"
        )
    return BAD_ROWS if found.bad else 0
