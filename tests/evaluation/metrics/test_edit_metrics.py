from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.datasets import EditItem, open_dataset
from semantic_edit.evaluation.metrics import ALWAYS, OPTIONAL, MetricUnavailable, edit_metrics
from semantic_edit.evaluation.metrics import networks as networks_module
from semantic_edit.evaluation.metrics.edit_metrics import MOST

LOWER_IS_BETTER = {"leftover", "features_to_target", "vae_features_to_target"}
NEEDS_VISION = {"clip", "clip_edited", "structure", "features_to_input", "features_to_target"}


@pytest.fixture(scope="module")
def item() -> EditItem:
    return open_dataset("still-life", count=1, seed=4, kinds=("object",))[0]


@pytest.fixture(scope="module")
def perfect(item) -> Image.Image:
    assert item.case is not None
    return item.case.target_image


def measured(names, pipe, item, picture) -> dict[str, float | None]:
    return {metric.name: metric(item, picture) for metric in edit_metrics(names, pipe)}


def test_the_perfect_edit_has_the_best_figures(still_life_parts, item, perfect):
    found = measured(ALWAYS, still_life_parts, item, perfect)
    assert list(found) == list(ALWAYS)
    assert found["nearest"] == 1.0
    assert found["psnr_to_target"] == math.inf
    assert found["ssim_to_target"] == pytest.approx(1.0)
    assert found["features_to_target"] == found["vae_features_to_target"] == 0.0
    assert found["psnr_outside"] > 30  # there the renders differ by at most 8 of 255
    assert found["ssim_outside"] > 0.9
    kept = measured(ALWAYS, still_life_parts, item, item.image)
    for metric in edit_metrics(ALWAYS, still_life_parts):
        if metric.needs == "case" or metric.name == "clip":
            better, worse = found[metric.name], kept[metric.name]
            assert better < worse if metric.name in LOWER_IS_BETTER else better > worse, metric.name


def test_the_untouched_picture_is_what_was_kept(still_life_parts, item):
    found = measured(None, still_life_parts, item, item.image)
    assert found["nearest"] == 0.0
    assert found["psnr_to_input"] == math.inf
    assert found["psnr_outside"] == MOST  # of what means are taken of
    assert found["ssim_to_input"] == pytest.approx(1.0)
    assert found["features_to_input"] == found["vae_features_to_input"] == 0.0
    assert found["structure"] == pytest.approx(0.0)


def test_items_without_ground_truth_have_no_figures_of_it(still_life_parts, item):
    bare = replace(item, case=None, load_mask=None)
    found = measured(None, still_life_parts, bare, item.image)
    for metric in edit_metrics(None, still_life_parts):
        assert (found[metric.name] is None) == bool(metric.needs), metric.name


def test_a_region_too_small_to_measure_has_no_figure(still_life_parts, item):
    everywhere = np.ones((128, 128), dtype=bool)
    found = measured(
        ["psnr_outside", "ssim_outside"],
        still_life_parts,
        replace(item, load_mask=lambda: everywhere),
        item.image,
    )
    assert found == {"psnr_outside": None, "ssim_outside": None}


def test_a_pipeline_without_a_vision_tower_gives_the_rest(still_life_parts):
    pipe = SimpleNamespace(**{**vars(still_life_parts), "image_encoder": None})
    assert [metric.name for metric in edit_metrics(None, pipe)] == [
        name for name in ALWAYS if name not in NEEDS_VISION
    ]
    for name in sorted(NEEDS_VISION):
        with pytest.raises(MetricUnavailable, match="`image_encoder`"):
            edit_metrics([name], pipe)


def test_a_result_of_another_size_is_refused(still_life_parts, item):
    small = item.image.resize((64, 64))
    for name in ("psnr_to_input", "ssim_outside", "vae_features_to_target", "clip_edited"):
        with pytest.raises(ValueError, match=r"one size|as large as"):
            measured([name], still_life_parts, item, small)


def test_an_unknown_name_is_refused(still_life_parts):
    with pytest.raises(
        ValueError, match=r"no metric beauty\. Choose from nearest, .*, dino_structure, .*, csfid\."
    ):
        edit_metrics(["clip", "beauty"], still_life_parts)


def test_what_is_missing_is_known_before_the_first_edit(still_life_parts, monkeypatch):
    def refuse(device: object) -> None:
        raise MetricUnavailable("Fetch them once")

    for name in ("cached_clip", "cached_lpips", "cached_dino"):
        monkeypatch.setattr(networks_module, name, refuse)
    for name in OPTIONAL:
        with pytest.raises(MetricUnavailable, match="Fetch them once"):
            edit_metrics([name], still_life_parts)


def test_published_networks_are_loaded_once(still_life_parts, item, perfect, monkeypatch):
    loaded: list[str] = []

    def mean_square(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).square().mean()

    def load(name: str, made: object) -> object:
        loaded.append(name)
        return made

    clip = SimpleNamespace(score=lambda text, picture, where=None: 20.0 if where is None else 10.0)
    monkeypatch.setattr(networks_module, "cached_clip", lambda device: load("clip", clip))
    monkeypatch.setattr(networks_module, "cached_lpips", lambda device: load("lpips", mean_square))
    dino = torch.eye(5)
    monkeypatch.setattr(networks_module, "cached_dino", lambda device: load("dino", lambda picture: dino))
    found = measured(OPTIONAL, still_life_parts, item, perfect)
    assert loaded == ["lpips", "clip", "dino"]
    assert (found["clip_score"], found["clip_score_edited"], found["dino_structure"]) == (20.0, 10.0, 0.0)
    assert 0 <= found["ns_lpips"] < found["lpips"]


def test_names_are_unique(still_life_parts):
    metrics = {metric.name: metric for metric in edit_metrics(ALWAYS, still_life_parts)}
    assert len(metrics) == len(ALWAYS)
    assert not set(ALWAYS) & set(OPTIONAL)
