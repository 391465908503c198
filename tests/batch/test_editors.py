"""A row's edit is the same in any company and in any order, apart from rounding: tiny models of the real classes."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from PIL import Image

from semantic_edit.batch.diffedit import DiffEditor
from semantic_edit.batch.kept import read_left_out
from semantic_edit.batch.planning import Unit
from semantic_edit.batch.rehearsal import rehearse
from semantic_edit.batch.restyle import Restyler
from semantic_edit.batch.sources import DataChoice, open_source
from semantic_edit.batch.team import Team
from semantic_edit.mapping_networks import LearningSettings
from tests.batch.conftest import drawn

PROMPTS = ("a green apple on grass", "a red pear on grass", "a blue mug on grass")


@pytest.fixture
def table(tmp_path):
    """Three pictures of one size with one edit each, one of them with two more, and a larger one."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number in range(4):
        drawn(number, (64, 64) if number < 3 else (160, 160)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "source_prompt": "a red apple on grass", "prompt": PROMPTS[0]})
    rows[1]["prompt"] = list(PROMPTS)
    (folder / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "edits.jsonl"


def edits_of(run_batch, results_of, table, make_editor, sizes):
    """The pictures of a table, by prompt and picture, edited by so many processes in turn."""
    for index in range(sizes):
        run_batch(table, index, sizes, editor=make_editor())
    return {(one["source"], one["prompt"]): one for one in results_of() if "error" not in one}


@pytest.fixture
def editor(pipe):
    def make(most=4):
        return DiffEditor(
            pipe, {"num_inference_steps": 4, "num_maps_per_mask": 2}, most=most, keeps_masks=True
        )

    return make


@pytest.mark.parametrize("size", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_a_row_is_the_same_whoever_edits_it_and_in_whatever_order(
    run_batch, results_of, table, editor, tmp_path, size
):
    alone = edits_of(run_batch, results_of, table, lambda: editor(most=1), 1)
    kept = {
        key: np.asarray(Image.open(tmp_path / "out" / one["image"])).astype(int) for key, one in alone.items()
    }
    (tmp_path / "out").rename(tmp_path / "before")
    table.write_text("".join(reversed(table.read_text().splitlines(keepends=True))))
    shared = edits_of(run_batch, results_of, table, editor, size)
    assert shared.keys() == kept.keys()
    assert len(kept) == 6
    for key, one in shared.items():
        now = np.asarray(Image.open(tmp_path / "out" / one["image"])).astype(int)
        assert abs(now - kept[key]).max() <= 1
        assert (one["seed"], one["name"]) == (alone[key]["seed"], alone[key]["name"])
    assert (tmp_path / "out" / next(iter(shared.values()))["mask"]).is_file()


def test_rows_of_a_picture_share_its_inversion(run_batch, table, editor, monkeypatch):
    given, made = [], editor()
    call = type(made.pipe).__call__

    @functools.wraps(call)
    def watched(self, **arguments):
        given.append((len(arguments["prompt"]), "trajectory" in arguments))
        return call(self, **arguments)

    monkeypatch.setattr(type(made.pipe), "__call__", watched)
    run_batch(table, editor=made)
    # two pictures with one edit each, then one with three, then the large one
    assert given == [(1, False), (1, False), (2, False), (1, True), (1, False)]


def test_what_looks_closer_together_is_edited_alone(editor, table):
    made = editor()
    rows = [*open_source(DataChoice(str(table)), "diffedit", Team()).read()]
    alike = [made.likeness(row, (64, 64)) for row in rows]
    assert len({*alike}) == 1
    assert len({made.likeness(row, (128, 128)) for row in rows}) == len(rows)
    made.options["focus"] = False
    assert len({made.likeness(row, (128, 128)) for row in rows}) == 1
    made.options["focus"] = True
    assert len({made.likeness(row, (64, 64)) for row in rows}) == len(rows)


def test_an_option_that_the_model_does_not_have_is_named(run_batch, table, editor, tmp_path):
    made = editor()
    made.options["true_cfg_scale"] = 3.0
    status = run_batch(table, editor=made, skips=True)
    assert status.bad == 6
    assert (
        "`true_cfg_scale` is no option of DiffEditPipeline" in next(read_left_out(tmp_path / "out"))["error"]
    )


def test_masks_of_one_s_own_are_taken_and_warnings_go_to_the_row_that_they_are_about(
    run_batch, table, editor, results_of
):
    Image.new("L", (64, 64), 255).crop((0, 0, 64, 64)).save(table.parent / "white.png")
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (0, 0, 64, 32))
    half.save(table.parent / "half.png")
    rows = [
        {"image": f"{number}.png", "prompt": PROMPTS[0], "mask_image": f"{mask}.png"}
        for number, mask in enumerate(("half", "white", "half"))
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = editor()
    made.batch_size(_unit((64, 64))).now = 3
    run_batch(table, editor=made)
    told = {one["mask_image"]: one["warnings"] for one in results_of()}
    assert {one["together"] for one in results_of()} == {3}
    assert not any("covers the whole picture" in text for text in told["half.png"])
    assert any(text.startswith("The mask covers the whole picture") for text in told["white.png"])


def _unit(size):
    return Unit([None], size)


def test_a_picture_is_learned_once_and_restyled_with_all_its_prompts(
    run_batch, results_of, table, style_pipe, tmp_path
):
    settings = LearningSettings(inner_steps=1, converged_below=0.0)

    def make(most=4):
        return Restyler(style_pipe, {"num_inference_steps": 3}, settings, most)

    table.write_text("".join(table.read_text().splitlines(keepends=True)[:3]))
    source = open_source(DataChoice(str(table)), "restyle", Team())
    run_batch(table, source=source, editor=make(most=1))
    alone = {(one["source"], one["prompt"]): one for one in results_of()}
    kept = {
        key: np.asarray(Image.open(tmp_path / "out" / one["image"])).astype(int) for key, one in alone.items()
    }
    (tmp_path / "out").rename(tmp_path / "before")
    editor = make()
    editor.batch_size(_unit((64, 64))).now = 3
    learned = []
    learn = style_pipe.learn_mapping
    editor.pipe = _Learning(
        style_pipe, lambda images, *a, **k: learned.append(len(images)) or learn(images, *a, **k)
    )
    run_batch(table, source=source, editor=editor)
    assert sum(learned) == 3
    assert len(results_of()) == len(kept) == 5
    for one in results_of():
        now = np.asarray(Image.open(tmp_path / "out" / one["image"])).astype(int)
        assert abs(now - kept[one["source"], one["prompt"]]).max() <= 2
        assert any("did not converge" in text for text in one["warnings"])


class _Learning:
    def __init__(self, pipe, learn):
        self._pipe, self.learn_mapping = pipe, learn

    def __getattr__(self, name):
        return getattr(self._pipe, name)

    def __call__(self, **arguments):
        return self._pipe(**arguments)


def test_a_rehearsal_tells_rows_sizes_and_time_and_writes_nothing(table, editor, tmp_path):
    table.write_text(table.read_text() + "nonsense\n")
    said = []
    found = rehearse(open_source(DataChoice(str(table)), "diffedit", Team()), editor(), said.append)
    lines = found.lines(2)
    assert lines[0] == "rows: 6, and 1 that cannot be used"
    assert "64 x 64 pixels: 3 pictures" in lines
    assert "160 x 160 pixels: 1 pictures" in lines
    assert any(line.startswith("expected: ") and "2 such processes" in line for line in lines)
    assert len(said) == 1
    assert found.seconds > 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
