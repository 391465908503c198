"""Fréchet distance of two sets of pictures: the distance between Gaussians fitted to their features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image

from semantic_edit.evaluation.metrics.similarity import as_planes
from semantic_edit.evaluation.metrics.unavailable import check_torch_weights, optional_module

Embed = Callable[[Sequence[Image.Image]], torch.Tensor]  # to (pictures, width)


def gaussian_distance(
    first_mean: torch.Tensor,
    first_covariance: torch.Tensor,
    second_mean: torch.Tensor,
    second_covariance: torch.Tensor,
) -> float:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians.

    Args:
        first_mean, second_mean: (width,).
        first_covariance, second_covariance: (width, width).

    Source: Heusel et al., arXiv:1706.08500, Eq. 6.
    """
    values, vectors = torch.linalg.eigh(first_covariance.cpu().double())
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # The eigenvalues of the product of the covariances, which itself is not symmetric.
    shared = torch.linalg.eigvalsh(root @ second_covariance.cpu().double() @ root).clamp(min=0).sqrt().sum()
    means = (first_mean.cpu().double() - second_mean.cpu().double()).square().sum()
    traces = first_covariance.cpu().double().trace() + second_covariance.cpu().double().trace()
    return (means + traces - 2 * shared).item()


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """`gaussian_distance` of the means and unbiased covariances of two sets of features, (samples, width) each.

    It is biased upwards, more so with fewer samples: compare only sets of one size.

    Raises:
        ValueError: If a set has fewer than two samples.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"A Fréchet distance needs at least two pictures a set, got {len(first)} and {len(second)}."
        )
    one, two = first.cpu().double(), second.cpu().double()
    return gaussian_distance(one.mean(0), one.T.cov(), two.mean(0), two.T.cov())


def fid(
    results: Sequence[Image.Image], references: Sequence[Image.Image], embed: Embed | None = None
) -> float:
    """Fréchet Inception distance of two sets of pictures.

    Args:
        results, references: At least two each; thousands, for figures that are comparable with others.
        embed: Computes features of pictures; by default `cached_inception()`.

    Raises:
        ValueError: If a set has fewer than two pictures.
        MetricUnavailable: As for `cached_inception`, if it is needed.
    """
    embed = embed or cached_inception()
    return frechet_distance(embed(results), embed(references))


def cached_inception(device: torch.device | str = "cpu") -> Embed:
    """The 2048 pooled features of FID's own Inception-v3, as in torchmetrics, with weights from torch.hub's cache.

    Images may have any sizes: each is resized to 299 x 299.

    Raises:
        MetricUnavailable: If torchmetrics, torch-fidelity, torchvision or the weights are not there.
    """
    source = optional_module("torch_fidelity.feature_extractor_inceptionv3", "FID")
    metrics = optional_module("torchmetrics.image.fid", "FID")
    check_torch_weights(source.URL_INCEPTION_V3, "FID")
    network = metrics.FrechetInceptionDistance(feature=2048).inception.to(device)

    @torch.no_grad()
    def embed(images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.cat([network(as_planes(one).to(device)).cpu() for one in images])

    return embed
