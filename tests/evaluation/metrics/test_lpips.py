from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.evaluation.metrics.lpips import cached_lpips, lpips, ns_lpips
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable


def mean_square(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Stands in for the network."""
    assert first.shape[:2] == second.shape[:2] == (1, 3)
    return (first - second).square().mean()


@pytest.fixture
def top() -> np.ndarray:
    where = np.zeros((4, 4), dtype=bool)
    where[:1] = True
    return where


def test_pictures_are_handed_over_from_minus_one_to_one():
    assert lpips(mean_square, Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")) == pytest.approx(
        4.0
    )


def test_only_the_region_counts(top):
    black, white = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")
    assert lpips(mean_square, black, white, top) == pytest.approx(4.0 / 4)
    assert ns_lpips(mean_square, black, white, top) == pytest.approx(4.0 * 3 / 4)


def test_changes_in_the_selected_region_are_free(top):
    before = np.full((4, 4, 3), 90, dtype=np.uint8)
    after = np.where(top[..., None], 255 - before, before).astype(np.uint8)
    assert ns_lpips(mean_square, Image.fromarray(before), Image.fromarray(after), top) == 0.0
    assert lpips(mean_square, Image.fromarray(before), Image.fromarray(after)) > 0


def test_pictures_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="one size, got 4 x 4 and 1 x 4 pixels"):
        lpips(mean_square, Image.new("RGB", (4, 4)), Image.new("RGB", (1, 4)))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MetricUnavailable, match=r"LPIPS needs `torchvision.models`.*\[evaluation\]"):
        cached_lpips()


@pytest.fixture
def libraries(monkeypatch, tmp_path) -> list[str]:
    """Stand-ins for torchvision and torchmetrics; returns the networks that were built."""
    built: list[str] = []

    class Metric(torch.nn.Module):
        kept = 0

        def __init__(self, net_type: str) -> None:
            super().__init__()
            built.append(net_type)

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            assert self.kept == 0
            self.kept += 1
            return mean_square(first, second)

        def reset(self) -> None:
            self.kept = 0

    models, metrics = ModuleType("torchvision.models"), ModuleType("torchmetrics.image.lpip")
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url="https://example.org/models/alexnet-1.pth"))
    models.AlexNet_Weights = weights  # type: ignore[attr-defined]
    metrics.LearnedPerceptualImagePatchSimilarity = Metric  # type: ignore[attr-defined]
    for module in (models, metrics):
        parents = module.__name__.split(".")[:-1]
        for depth in range(len(parents)):
            name = ".".join(parents[: depth + 1])
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return built


def test_missing_weights_are_named_before_anything_could_download_them(libraries, tmp_path):
    with pytest.raises(
        MetricUnavailable, match=r"curl .*alexnet-1\.pth' https://example.org/models/alexnet-1.pth"
    ):
        cached_lpips()
    assert libraries == []


def test_with_its_weights_the_network_is_used_again_and_again(libraries, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-1.pth").touch()
    network = cached_lpips()
    black, white = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")
    assert libraries == ["alex"]
    assert [lpips(network, black, one) for one in (black, white, white)] == [0.0, 4.0, 4.0]
