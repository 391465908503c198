from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from semantic_edit.datasets import open_dataset
from semantic_edit.evaluation.metrics import MetricUnavailable, SetMetrics


@pytest.fixture(scope="module")
def items():
    return open_dataset("still-life", count=4, seed=5, kinds=("colour",), split="validation")


@pytest.fixture(scope="module")
def saved(items, tmp_path_factory):
    """Files with perfect edits, and files with unchanged images."""
    folder = tmp_path_factory.mktemp("edits")

    def save(name, pictures):
        paths = [folder / f"{name}-{number}.png" for number in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path)
        return paths

    return {
        "perfect": save("perfect", [item.case.target_image for item in items]),
        "untouched": save("untouched", [item.image for item in items]),
    }


def test_the_model_s_own_tower_tells_perfect_edits_from_pictures_left_alone(still_life_parts, items, saved):
    metrics = SetMetrics(["vision_fid", "vision_csfid"], still_life_parts)
    metrics.see_references(items)
    perfect, untouched = (metrics(items, saved[name]) for name in ("perfect", "untouched"))
    assert abs(untouched["vision_fid"]) < 1e-4 < perfect["vision_fid"]
    assert abs(perfect["vision_csfid"]) < 1e-4 < untouched["vision_csfid"]


def test_classes_are_told_apart(still_life_parts, items, saved):
    metrics = SetMetrics(["vision_csfid"], still_life_parts)
    others = [
        replace(one, target_class=other.target_class)
        for one, other in zip(items, [*items[1:], items[0]], strict=True)
    ]
    metrics.see_references(items)
    own, exchanged = (metrics(told, saved["perfect"])["vision_csfid"] for told in (items, others))
    assert own < exchanged


def test_one_picture_has_no_spread_and_no_fid(still_life_parts, items, saved):
    metrics = SetMetrics(["vision_fid", "vision_csfid"], still_life_parts)
    metrics.see_references(items)
    found = metrics(items[:1], saved["perfect"][:1])
    assert found["vision_fid"] is None
    assert found["vision_csfid"] is not None


def test_inception_is_missed_at_once(still_life_parts, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MetricUnavailable, match="FID needs"):
        SetMetrics(["csfid"], still_life_parts)
