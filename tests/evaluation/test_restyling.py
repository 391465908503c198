"""The comparison's machinery, with a method that costs nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from semantic_edit.evaluation import running
from semantic_edit.evaluation.measuring import Cases, measured_edit
from semantic_edit.evaluation.method import EditMethod
from semantic_edit.evaluation.restyling import _chosen_sweeps, _parser, write_tables
from semantic_edit.evaluation.rows import Rows
from semantic_edit.evaluation.running import Comparison, run_sweeps
from semantic_edit.evaluation.sweeps import Sweep, ablation_sweeps, baseline_sweeps, style_sweeps
from semantic_edit.evaluation.verdicts import shows_edit
from semantic_edit.still_life.cases import edit_cases
from semantic_edit.still_life.judge import load_judge

CALLS: list[tuple[Any, ...]] = []


@dataclass(frozen=True)
class Fading(EditMethod):
    """Mixes grey into the picture."""

    prepared_by: ClassVar[tuple[str, ...]] = ("kind",)

    kind: str = "a"
    grey: float = 0.5

    def prepare(self, pipe, images, source_prompts):
        CALLS.append(("prepare", self.kind, len(images)))
        return list(images)

    def edit(self, pipe, prepared, prompt, seed=0):
        if self.grey > 1:
            raise KeyboardInterrupt
        CALLS.append(("edit", self.kind, self.grey, seed))
        return Image.blend(prepared, Image.new("RGB", prepared.size, "grey"), self.grey)

    def reconstruct(self, pipe, prepared):
        return np.asarray(prepared) / 255.0


def fading(name: str, kind: str, *greys: float) -> Sweep:
    default = Fading(kind=kind)
    return Sweep(name, "grey", default, tuple((f"{grey:g}", replace(default, grey=grey)) for grey in greys))


@pytest.fixture(scope="module")
def cases() -> Cases:
    return Cases(("object", "colour"), 2, seed=5, split="validation")


@pytest.fixture
def comparison(tmp_path, cases, monkeypatch) -> Comparison:
    CALLS.clear()
    values = {"nearest": True, "judge": False, "background": 25.0, "structure": 0.01}
    monkeypatch.setattr(running, "measured_edit", lambda *_: values)
    kept = {"to_vae": 40.0, "to_picture": 30.0, "vae_to_picture": 31.0}
    monkeypatch.setattr(running, "measured_reconstruction", lambda *_: kept)
    rows = Rows(tmp_path / "results.jsonl")
    return Comparison(SimpleNamespace(), load_judge(), cases, rows, {"model": "x"}, tmp_path, shown=1)


def test_cases_of_one_number_are_of_one_picture(cases):
    for number in range(2):
        one, other = cases.case("object", number), cases.case("colour", number)
        assert (np.asarray(one.image) == np.asarray(other.image)).all()
        assert one.source_prompt == other.source_prompt
        assert one.prompt != other.prompt


def test_a_picture_is_prepared_once_for_all_sweeps_that_share_it(comparison):
    run_sweeps(
        comparison, [fading("one", "a", 0.5, 0.1), fading("two", "a", 0.5, 0.9), fading("three", "b", 0.5)]
    )
    assert [call for call in CALLS if call[0] == "prepare"] == [("prepare", "a", 2), ("prepare", "b", 2)]
    edits = [call for call in CALLS if call[0] == "edit"]
    assert (
        len(edits) == len({*edits}) * 2 == 2 * 2 * (3 + 1)
    )  # two kinds look alike here, and 0.5 is run once


def test_an_interrupted_run_goes_on_where_it_was(comparison):
    whole = fading("one", "a", 0.1, 0.2, 0.3)
    broken = replace(whole, points=(*whole.points[:2], ("2", Fading(grey=2.0))))
    with pytest.raises(KeyboardInterrupt):
        run_sweeps(comparison, [broken])
    before = len(comparison.rows.path.read_text().splitlines())
    resumed = replace(comparison, rows=Rows(comparison.rows.path))
    CALLS.clear()
    run_sweeps(resumed, [whole])
    done = len(resumed.rows.path.read_text().splitlines())
    assert before == 1 + 2 * 2  # of the first picture the reconstruction and two edits of each kind
    assert done == 2 * (1 + 3 * 2)
    assert len([call for call in CALLS if call[0] == "edit"]) == 3 * 2 * 2 - 4
    CALLS.clear()
    run_sweeps(replace(comparison, rows=Rows(comparison.rows.path)), [whole])
    assert CALLS == []


def test_only_pictures_with_something_to_do_are_prepared(comparison):
    run_sweeps(replace(comparison, cases=replace(comparison.cases, count=1)), [fading("one", "a", 0.5)])
    CALLS.clear()
    run_sweeps(comparison, [fading("one", "a", 0.5)])
    assert CALLS[0] == ("prepare", "a", 1)


def test_other_models_and_settings_do_not_share_rows(comparison):
    sweep = fading("one", "a", 0.5)
    run_sweeps(comparison, [sweep])
    for other in (replace(comparison, identity={"model": "y"}), comparison):
        changed = (
            sweep
            if other is not comparison
            else replace(sweep, default=Fading(7), points=(("x", Fading(7)),))
        )
        CALLS.clear()
        run_sweeps(other, [changed])
        assert len([call for call in CALLS if call[0] == "edit"]) == 4


def test_the_tables_and_grids_are_written(comparison):
    sweeps = {
        "style": [fading("ours", "a", 0.1, 0.5)],
        "baselines": [fading("theirs", "b", 0.5)],
        "ablations": [fading("less", "c", 0.5)],
        "published": [replace(fading("longer", "d"), points=())],
    }
    run_sweeps(comparison, [sweep for group in sweeps.values() for sweep in group])
    text = write_tables(comparison, sweeps)
    assert text == (comparison.folder / "results.md").read_text()
    assert (
        "| ours | grey **0.5** | 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00] | 25.0 [25.0, 25.0] | 10.0 [10.0, 10.0] |"
        in text
    )
    assert "### all edits, n = 4 of 2 pictures" in text
    assert "| all | nearest render | theirs, grey 0.5 | 1.00 | 25.0 | ours | +0.0 [+0.0, +0.0] | 4 |" in text
    assert "| longer | 40.0 [40.0, 40.0] | 40.0 | 1.00 | 1.00 | 100 % | 0 | 0 |" in text
    with (comparison.folder / "curves.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 4
    assert {line["edits"] for line in lines} == {"object", "colour", "all"}
    grid = Image.open(comparison.folder / "ours.png")
    assert grid.size == (
        5 * 132 - 4,
        2 * 132 - 4,
    )  # source, reconstruction, two edits, perfect edit; two kinds
    assert not (comparison.folder / "longer.png").exists()


def test_a_perfect_edit_succeeds_and_keeps_the_background(cases, image_encoder, feature_extractor):
    pipe = SimpleNamespace(image_encoder=image_encoder, feature_extractor=feature_extractor)
    case = cases.case("object", 0)
    perfect = measured_edit(pipe, load_judge(), case, case.target_image)
    assert (perfect["nearest"], perfect["judge"]) == (True, True)
    assert perfect["background"] > 40
    assert perfect["structure"] > 0
    unchanged = measured_edit(pipe, load_judge(), case, case.image)
    assert (unchanged["nearest"], unchanged["judge"]) == (False, False)
    assert unchanged["structure"] == pytest.approx(0, abs=1e-12)


def test_the_verdict_is_about_the_edited_object():
    case = edit_cases(1, 3, ("colour",), objects=1)[0]
    (told,) = case.target_scene.objects
    surface = case.scene.surface
    assert shows_edit(case, (surface, told.kind, told.colour, "nothing", "nothing"))
    assert not shows_edit(case, (surface, told.kind, case.source_word, "nothing", "nothing"))
    grounds = edit_cases(1, 3, ("surface",))[0]
    assert shows_edit(grounds, (grounds.target_word, "", "", "nothing", "nothing"))


def test_every_sweep_has_its_default_and_thinning_keeps_it():
    for sweep in (*baseline_sweeps(30), *style_sweeps(30)[:2], *ablation_sweeps(30)):
        assert sweep.default_point is not None
        assert len({label for label, _ in sweep.points}) == len(sweep.points)
        for count in (1, 2, 3):
            thin = sweep.thinned(count)
            assert len(thin.points) <= count
            assert thin.default_point == sweep.default_point
        assert sweep.thinned(99) == sweep.thinned(None) == sweep


def test_the_presets_begin_at_the_default_that_the_tau_v_curve_has_too():
    along, presets, _ = style_sweeps(30)
    assert presets.points[0][1] == along.default
    assert along.default_point == "0.6"


def test_methods_are_chosen_by_name():
    chosen = _chosen_sweeps(_parser().parse_args(["--methods", "nti", "stylediffusion", "--points", "2"]))
    assert [sweep.name for sweep in chosen["baselines"]] == ["NTI + P2P"]
    assert len(chosen["style"]) == 3
    assert chosen["ablations"] == chosen["published"] == []
