"""The comparison's machinery, with a method that costs nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.datasets import open_dataset
from semantic_edit.evaluation import running
from semantic_edit.evaluation.evaluate import comparison_of, evaluate, resized_item
from semantic_edit.evaluation.figures import _draw
from semantic_edit.evaluation.method import Edited, EditMethod
from semantic_edit.evaluation.metrics import EditMetric, SetMetrics, frechet_distance
from semantic_edit.evaluation.metrics.networks import Networks
from semantic_edit.evaluation.rows import Rows
from semantic_edit.evaluation.running import Comparison, run_sweeps
from semantic_edit.evaluation.sweeps import METHODS, Sweep, sweep_of
from semantic_edit.evaluation.verdicts import judge_metric, shows_edit
from semantic_edit.still_life.cases import edit_cases

CALLS: list[tuple[Any, ...]] = []


@dataclass(frozen=True)
class Fading(EditMethod):
    """Mixes grey into the image, and reports a mask of everything."""

    prepared_by: ClassVar[tuple[str, ...]] = ("kind",)

    kind: str = "a"
    grey: float = 0.5

    def prepare(self, pipe, images, source_prompts):
        CALLS.append(("prepare", self.kind, len(images)))
        return list(images)

    def edited(self, pipe, prepared, prompt, seed=0):
        if self.grey > 2:
            raise ValueError("too grey")
        if self.grey > 1:
            raise KeyboardInterrupt
        CALLS.append(("edit", self.kind, self.grey, prompt, seed))
        picture = Image.blend(prepared, Image.new("RGB", prepared.size, "grey"), self.grey)
        return Edited(picture, mask=np.ones(picture.size[::-1], dtype=bool))

    def reconstruct(self, pipe, prepared):
        return np.asarray(prepared) / 255.0


def fading(name: str, kind: str, *greys: float) -> Sweep:
    default = Fading(kind=kind)
    return Sweep(name, "grey", default, tuple((f"{grey:g}", replace(default, grey=grey)) for grey in greys))


def constant(name: str, value: float) -> EditMetric:
    return EditMetric(name, "", lambda item, picture: value)


@pytest.fixture(scope="module")
def items():
    return tuple(
        item
        for kind in ("object", "colour")
        for item in open_dataset("still-life", count=2, seed=5, kinds=(kind,), split="validation")
    )


@pytest.fixture
def comparison(tmp_path, items, monkeypatch, pipe) -> Comparison:
    CALLS.clear()
    kept = {"to_vae": 40.0, "to_picture": 30.0, "vae_to_picture": 31.0}
    monkeypatch.setattr(running, "measured_reconstruction", lambda *_: kept)
    metrics = (constant("nearest", 1.0), constant("psnr_outside", 25.0), constant("structure", 0.01))
    rows = Rows(tmp_path / "results.jsonl")
    return Comparison(pipe, items, metrics, rows, {"model": "x"}, tmp_path, shown=1)


def edits():
    return [call for call in CALLS if call[0] == "edit"]


def test_a_picture_is_prepared_once_for_all_settings_that_share_it(comparison):
    run_sweeps(
        comparison, [fading("one", "a", 0.5, 0.1), fading("two", "a", 0.5, 0.9), fading("three", "b", 0.5)]
    )
    assert [call for call in CALLS if call[0] == "prepare"] == [("prepare", "a", 2), ("prepare", "b", 2)]
    assert len(edits()) == len({*edits()}) == 2 * 2 * (3 + 1)  # 0.5 is run once


def test_settings_that_need_another_preparation_get_it(comparison):
    mixed = replace(fading("one", "a", 0.5), points=(("a", Fading()), ("b", Fading(kind="b"))))
    run_sweeps(comparison, [mixed])
    assert [call[1] for call in CALLS if call[0] == "prepare"] == ["a", "b"]
    assert len(edits()) == 2 * 4
    reconstructions = [
        row for row in comparison.rows.path.read_text().splitlines() if "reconstruction" in row
    ]
    assert len(reconstructions) == 2  # of the sweep's default alone


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
    assert len(edits()) == 3 * 2 * 2 - 4
    CALLS.clear()
    run_sweeps(replace(comparison, rows=Rows(comparison.rows.path)), [whole])
    assert CALLS == []


def test_only_pictures_with_something_to_do_are_prepared(comparison):
    first = tuple(item for item in comparison.items if item.group == comparison.items[0].group)
    run_sweeps(replace(comparison, items=first), [fading("one", "a", 0.5)])
    CALLS.clear()
    run_sweeps(comparison, [fading("one", "a", 0.5)])
    assert CALLS[0] == ("prepare", "a", 1)


def test_seeds_depend_on_the_edit_and_not_on_its_neighbours(comparison):
    run_sweeps(comparison, [fading("one", "a", 0.5)])
    seeds = {call[3]: call[4] for call in edits()}
    assert len({*seeds.values()}) == 4
    alone = replace(comparison, items=comparison.items[-1:])
    assert alone.seed_of(alone.items[0]) == seeds[alone.items[0].prompt]
    assert replace(alone, seed=1).seed_of(alone.items[0]) != seeds[alone.items[0].prompt]


def test_other_models_and_settings_do_not_share_rows(comparison):
    sweep = fading("one", "a", 0.5)
    run_sweeps(comparison, [sweep])
    other_steps = replace(sweep, default=Fading(7), points=(("x", Fading(7)),))
    for other, changed in ((replace(comparison, identity={"model": "y"}), sweep), (comparison, other_steps)):
        CALLS.clear()
        run_sweeps(other, [changed])
        assert len(edits()) == 4


def test_pictures_of_several_sizes_are_prepared_apart(comparison):
    items = (comparison.items[0], resized_item(comparison.items[1], (64, 64)))
    run_sweeps(replace(comparison, items=items), [fading("one", "a", 0.5)])
    assert [call for call in CALLS if call[0] == "prepare"] == [("prepare", "a", 1)] * 2


def test_a_failure_ends_the_run_or_is_written_down_and_left_out(comparison):
    failing = fading("one", "a", 0.5, 3.0)
    with pytest.raises(ValueError, match="too grey"):
        run_sweeps(comparison, [failing])
    said = []
    skipping = replace(comparison, skips=True)
    run_sweeps(skipping, [failing], said.append)
    assert sum("left out" in line and "too grey" in line for line in said) == 4
    CALLS.clear()
    run_sweeps(skipping, [failing])
    assert CALLS == []  # what failed is not tried again in one run
    report = evaluate(skipping, [failing], said.append)
    assert "### object" not in report
    assert "0 edits of 2 pictures" in report
    assert "4 more failed under some method" in report
    again = replace(skipping, rows=Rows(comparison.rows.path))
    with pytest.raises(ValueError, match="too grey"):
        run_sweeps(replace(again, skips=False), [failing])


def test_what_is_not_finite_is_a_failure_like_others(comparison, monkeypatch):
    def reconstruct(self, pipe, prepared):
        raise FloatingPointError("all is NaN")

    monkeypatch.setattr(Fading, "reconstruct", reconstruct)
    with pytest.raises(FloatingPointError, match="all is NaN"):
        run_sweeps(comparison, [fading("one", "a", 0.5)])
    said = []
    report = evaluate(replace(comparison, skips=True), [fading("one", "a", 0.5)], said.append)
    assert sum("left out the reconstruction of" in line and "all is NaN" in line for line in said) == 2
    assert "4 edits of 2 pictures" in report


def test_a_picture_that_cannot_be_prepared_does_not_take_others_with_it(comparison, monkeypatch):
    prepare, hopeless = Fading.prepare, comparison.items[0].source_prompt

    def picky(self, pipe, images, source_prompts):
        if hopeless in source_prompts:
            raise ValueError("cannot be learned")
        return prepare(self, pipe, images, source_prompts)

    monkeypatch.setattr(Fading, "prepare", picky)
    said = []
    run_sweeps(replace(comparison, skips=True), [fading("one", "a", 0.5)], said.append)
    assert sum("left out" in line and "cannot be learned" in line for line in said) == 1
    assert len(edits()) == 2


def test_a_method_that_the_model_is_no_good_for_is_named_before_any_work(comparison, monkeypatch):
    def check(self, pipe):
        if self.kind == "b":
            raise ValueError("no eyes to see with")

    monkeypatch.setattr(Fading, "check", check)
    with pytest.raises(ValueError, match="no eyes to see with"):
        evaluate(comparison, [fading("one", "a", 0.5), fading("other", "b", 0.5)], print)
    assert CALLS == []


def test_other_prompts_and_sizes_are_other_results(comparison, tmp_path):
    run_sweeps(comparison, [fading("one", "a", 0.5)])
    before = len(edits())
    renamed = tuple(replace(item, prompt=f"{item.prompt} at night") for item in comparison.items)
    run_sweeps(replace(comparison, items=renamed), [fading("one", "a", 0.5)])
    assert len(edits()) == 2 * before
    told = tuple(replace(item, source_prompt="a picture") for item in comparison.items)
    run_sweeps(replace(comparison, items=told), [fading("one", "a", 0.5)])
    assert len(edits()) == 3 * before
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "scheduler"))
    unet = torch.nn.Linear(2, 2)
    pipe = SimpleNamespace(unet=unet, components={**parts, "unet": unet})
    identities = [
        comparison_of(pipe, comparison.items, tmp_path / "other", ["psnr_to_input"], size=size).identity
        for size in (None, (64, 64), (32, 64))
    ]
    assert len({str(identity) for identity in identities}) == 3


def test_more_steps_than_the_schedule_has_are_refused_before_anything_is_written(comparison, tmp_path):
    steps = replace(fading("one", "a", 0.5), default=Fading(num_inference_steps=1001))
    with pytest.raises(ValueError, match=r"`num_inference_steps` must .* got 1001"):
        evaluate(comparison, [steps], print)
    assert CALLS == []
    assert (tmp_path / "results.jsonl").read_text() == ""


def test_a_picture_that_cannot_be_read_ends_the_run_or_is_left_out(comparison):
    def damaged():
        raise ValueError("damaged behind its header")

    first = comparison.items[0].group
    items = tuple(
        replace(item, load_image=damaged) if item.group == first else item for item in comparison.items
    )
    broken = replace(comparison, items=items)
    with pytest.raises(ValueError, match="damaged behind"):
        run_sweeps(broken, [fading("one", "a", 0.5)])
    said = []
    run_sweeps(replace(broken, skips=True), [fading("one", "a", 0.5)], said.append)
    assert sum("left out" in line and "damaged behind" in line for line in said) == 1
    assert len(edits()) == 2  # of the other picture


def test_a_mask_that_cannot_be_read_is_left_out(comparison):
    def damaged():
        raise ValueError("no mask")

    items = (replace(comparison.items[0], load_mask=damaged), *comparison.items[1:])
    said = []
    run_sweeps(replace(comparison, items=items, skips=True), [fading("one", "a", 0.5)], said.append)
    assert sum("left out" in line and "no mask" in line for line in said) == 1


def test_the_tables_grids_and_curves_are_written(comparison):
    pytest.importorskip("matplotlib")
    sweeps = [
        fading("StyleDiffusion", "a", 0.1, 0.5),
        fading("theirs", "b", 0.5),
        replace(fading("longer", "d"), points=()),
    ]
    text = evaluate(comparison, sweeps, lambda line: None, curves=True)
    assert text == (comparison.folder / "report.md").read_text()
    assert "### all edits, n = 4 of 2 pictures" in text
    assert (
        "| StyleDiffusion | grey **0.5** | 1.00 [1.00, 1.00] | 25.0 [25.0, 25.0] | 10.0 [10.0, 10.0] |"
        in text
    )
    assert (
        "| theirs, grey 0.5 | 1.00 | PSNR outside, dB | 25.0 | StyleDiffusion | +0.0 [+0.0, +0.0] | 4 |"
        in text
    )
    assert "| longer | 40.0 [40.0, 40.0] | 40.0 | 1.00 | 1.00 | 100 % | 0 | 0 |" in text
    with (comparison.folder / "edits.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 3
    assert {line["edits"] for line in lines} == {"object", "colour", "all"}
    assert float(lines[0]["mask_iou"]) < 0.5  # it says that it edited everything
    grid = Image.open(comparison.folder / "stylediffusion.png")
    assert grid.size == (
        5 * 132 - 4,
        2 * 132 - 4,
    )  # source, reconstruction, two edits, perfect edit; two kinds
    assert not (comparison.folder / "longer.png").exists()
    assert (comparison.folder / "object-nearest-over-psnr_outside.png").is_file()


def test_without_ground_truth_nothing_is_said_of_equal_success(comparison):
    pytest.importorskip("matplotlib")
    bare = replace(
        comparison,
        items=tuple(replace(item, case=None) for item in comparison.items),
        metrics=(replace(comparison.metrics[0], needs="case"), *comparison.metrics[1:]),
    )
    sweeps = [fading("StyleDiffusion", "a", 0.1, 0.5), fading("theirs", "b", 0.5)]
    text = evaluate(bare, sweeps, lambda line: None, curves=True)
    assert "nan" not in text
    assert "Background at equal success" not in text
    assert not list(bare.folder.glob("*-nearest-over-*"))


def test_curves_are_drawn_in_the_units_of_their_titles():
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    lines = [
        {"method": "ours", "default": default, "structure": 0.018, "judge": judge}
        for default, judge in (("", 0.5), ("yes", 1.0))
    ]
    _draw(axes, lines, "structure", "judge")
    curve, star = axes.lines
    assert list(curve.get_xdata()) == [18.0, 18.0]
    assert list(curve.get_ydata()) == [0.5, 1.0]
    assert [*star.get_xdata(), *star.get_ydata()] == [18.0, 1.0]
    assert "x 1000" in axes.get_xlabel()


def see_sets(comparison, monkeypatch, *names):
    """Set metrics whose feature of an image is its mean colour."""
    monkeypatch.setattr(Networks, "inception", property(lambda self: mean_colours))
    return replace(comparison, sets=SetMetrics(names, SimpleNamespace()))


def mean_colours(pictures):
    return torch.stack([torch.from_numpy(np.asarray(one) / 255.0).mean((0, 1)) for one in pictures])


def test_sets_of_edits_are_compared_with_the_inputs_and_with_true_pictures(comparison, monkeypatch):
    seeing = see_sets(comparison, monkeypatch, "fid", "csfid")
    text = evaluate(seeing, [fading("one", "a", 0.0, 0.5, 1.0)], lambda line: None)
    assert "FID to the inputs | CSFID |" in text
    with (comparison.folder / "sets.csv").open() as file:
        lines = {line["setting"]: line for line in csv.DictReader(file) if line["edits"] == "object"}
    assert [line["n"] for line in lines.values()] == ["2"] * 3
    inputs = mean_colours([item.image for item in seeing.items[:2]])
    greys = mean_colours([Image.new("RGB", (4, 4), "grey")] * 2)
    targets = mean_colours([item.case.target_image for item in seeing.items[:2]])
    assert seeing.items[0].target_class != seeing.items[1].target_class  # else CSFID takes their mean
    assert float(lines["0"]["fid"]) == pytest.approx(0.0, abs=1e-9)
    assert float(lines["1"]["fid"]) == pytest.approx(frechet_distance(greys, inputs))
    assert float(lines["1"]["csfid"]) == pytest.approx((greys - targets).square().sum(1).mean().item())


def test_sets_need_every_picture_and_get_those_that_earlier_runs_did_not_keep(comparison, monkeypatch):
    sweep = fading("one", "a", 0.5)
    run_sweeps(comparison, [sweep])
    kept = set((comparison.folder / "pictures").glob("*.png"))
    seeing = see_sets(comparison, monkeypatch, "fid")
    CALLS.clear()
    evaluate(seeing, [sweep], lambda line: None)
    assert len(edits()) == 2  # of the picture that was not shown
    assert len(set((comparison.folder / "pictures").glob("*.png")) - kept) == 2
    assert Image.open(comparison.folder / "one.png").height == 2 * 132 - 4  # of the picture that is shown
    CALLS.clear()
    evaluate(see_sets(comparison, monkeypatch, "fid"), [sweep], lambda line: None)
    assert CALLS == []


def test_a_damaged_example_is_found_before_any_edit(comparison, monkeypatch):
    def damaged():
        raise ValueError("damaged example")

    items = tuple(replace(item, load_examples=damaged) for item in comparison.items)
    seeing = replace(see_sets(comparison, monkeypatch, "csfid"), items=items)
    with pytest.raises(ValueError, match="damaged example"):
        evaluate(seeing, [fading("one", "a", 0.5)], lambda line: None)
    assert CALLS == []


def test_a_damaged_input_is_left_out_of_sets_too(comparison, monkeypatch):
    def damaged():
        raise ValueError("damaged behind its header")

    first = comparison.items[0].group
    items = tuple(
        replace(item, load_image=damaged) if item.group == first else item for item in comparison.items
    )
    seeing = replace(see_sets(comparison, monkeypatch, "fid", "csfid"), items=items)
    with pytest.raises(ValueError, match="damaged behind"):
        evaluate(seeing, [fading("one", "a", 0.5)], lambda line: None)
    text = evaluate(replace(seeing, skips=True), [fading("one", "a", 0.5)], lambda line: None)
    assert "| CSFID |" in text  # of the other picture


def test_classes_without_true_pictures_have_no_part(comparison, monkeypatch):
    items = tuple(replace(item, load_examples=None) for item in comparison.items)
    seeing = replace(see_sets(comparison, monkeypatch, "csfid"), items=items)
    assert "CSFID" not in evaluate(seeing, [fading("one", "a", 0.5)], lambda line: None)


def test_the_judge_s_verdict_is_about_the_edited_object():
    case = edit_cases(1, 3, ("colour",), objects=1)[0]
    (told,) = case.target_scene.objects
    surface = case.scene.surface
    assert shows_edit(case, (surface, told.kind, told.colour, "nothing", "nothing"))
    assert not shows_edit(case, (surface, told.kind, case.source_word, "nothing", "nothing"))
    grounds = edit_cases(1, 3, ("surface",))[0]
    assert shows_edit(grounds, (grounds.target_word, "", "", "nothing", "nothing"))


def test_the_judge_sees_the_perfect_edit_and_not_the_source(items):
    judge = judge_metric()
    assert judge(items[0], items[0].case.target_image) == 1.0
    assert judge(items[0], items[0].image) == 0.0
    assert judge(replace(items[0], case=None), items[0].image) is None


@pytest.mark.parametrize("name", METHODS)
def test_every_sweep_has_its_default_and_thinning_keeps_it(name):
    sweep = sweep_of(name)
    if sweep.default_point is None:  # there for its reconstruction, or beside a sweep that has the default
        assert name in ("stylediffusion-published", "stylediffusion-all-taus")
        return
    assert len({label for label, _ in sweep.points}) == len(sweep.points)
    for count in (1, 2, 3):
        thin = sweep.thinned(count)
        assert len(thin.points) <= count
        assert thin.default_point == sweep.default_point
    assert sweep.thinned(99) == sweep.thinned(None) == sweep
    assert 7 in {method.num_inference_steps for _, method in sweep_of(name, num_inference_steps=7).points}


def test_the_presets_begin_at_the_default_that_the_tau_v_curve_has_too():
    along, presets = sweep_of("stylediffusion"), sweep_of("stylediffusion-presets")
    assert presets.points[0][1] == along.default
    assert along.default_point == "0.6"
