from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.evaluation.metrics import fid, frechet_distance
from semantic_edit.evaluation.metrics.fid import cached_inception, gaussian_distance
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable, check_torch_weights


def test_gaussians_along_the_axes_have_a_closed_form():
    """Squared distance of the means, and of the standard deviations."""
    one, two = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 3.5])
    deviations = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([0.5, 1.0, 3.0])
    found = gaussian_distance(one, deviations[0].square().diag(), two, deviations[1].square().diag())
    assert found == pytest.approx(4.0 + 0.25 + 1.5**2 + 3.0**2)


def test_gaussians_turned_together_keep_their_distance():
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    covariances = [torch.diag(torch.tensor(values, dtype=torch.float64)) for values in ([4, 1, 0], [1, 9, 2])]
    mean = torch.zeros(3)
    turned = [rotation @ one @ rotation.T for one in covariances]
    assert gaussian_distance(mean, turned[0], mean, turned[1]) == pytest.approx(
        gaussian_distance(mean, covariances[0], mean, covariances[1])
    )


def test_gaussians_across_each_other():
    """In two dimensions, trace(sqrt(M)) = sqrt(trace(M) + 2 sqrt(det(M)))."""
    one = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    two = torch.tensor([[3.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    product = one @ two
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    mean = torch.zeros(2)
    assert gaussian_distance(mean, one, mean, two) == pytest.approx((4 + 4 - 2 * root).item())


def test_a_set_is_at_distance_zero_from_itself_and_moves_by_its_mean():
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-7)
    assert frechet_distance(features, features + 2.0) == pytest.approx(6 * 4.0, rel=1e-5)


def test_many_samples_come_near_their_gaussians():
    draws = torch.Generator().manual_seed(0)
    one, two = torch.randn(20_000, 3, generator=draws), 1 + 2 * torch.randn(20_000, 3, generator=draws)
    assert frechet_distance(one, two) == pytest.approx(3 * (1.0 + 1.0), rel=0.03)


def test_one_picture_has_no_spread():
    with pytest.raises(ValueError, match="at least two pictures a set, got 1 and 5"):
        frechet_distance(torch.ones(1, 2), torch.ones(5, 2))


def mean_colours(pictures: list[Image.Image]) -> torch.Tensor:
    """Stands in for Inception."""
    return torch.stack([torch.from_numpy(np.asarray(one) / 255.0).mean((0, 1)) for one in pictures])


def test_fid_of_sets_of_pictures():
    """Two greys per set, 0.2 and 0.6, then 0.6 and 1: only the means differ, by 0.4 per channel."""
    dark, light = (
        [Image.new("RGB", (4, 4), (level,) * 3) for level in pair] for pair in ((51, 153), (153, 255))
    )
    assert fid(dark, dark, mean_colours) == pytest.approx(0.0, abs=1e-7)
    assert fid(dark, light, mean_colours) == pytest.approx(3 * 0.16)


def test_the_formula_is_torchmetrics_own():
    metrics = pytest.importorskip("torchmetrics.image.fid")
    network = torch.nn.Flatten()
    network.num_features = 12  # type: ignore[assignment]
    metric = metrics.FrechetInceptionDistance(feature=network, normalize=True)
    draws = torch.Generator().manual_seed(0)
    one, two = torch.rand(40, 3, 2, 2, generator=draws), torch.rand(30, 3, 2, 2, generator=draws) ** 2
    metric.update(one, real=True)
    metric.update(two, real=False)
    assert frechet_distance(one.flatten(1), two.flatten(1)) == pytest.approx(
        metric.compute().item(), rel=1e-4
    )


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(MetricUnavailable, match=r"FID needs `torch_fidelity.*\[evaluation\]"):
        cached_inception()


def test_weights_are_looked_for_where_torch_would_put_them(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        MetricUnavailable, match=r"FID needs weights in '.*checkpoints.net\.pth'.*/a/net\.pth$"
    ):
        check_torch_weights("https://example.org/a/net.pth", "FID")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "net.pth").touch()
    check_torch_weights("https://example.org/a/net.pth", "FID")
