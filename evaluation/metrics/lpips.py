"""LPIPS, and LPIPS of what an edit should leave alone, for users who have its networks' weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from semantic_edit.evaluation.metrics.regions import only_inside
from semantic_edit.evaluation.metrics.similarity import as_planes
from semantic_edit.evaluation.metrics.unavailable import check_torch_weights, optional_module

# The mean distance between two batches of pictures (batch, 3, height, width) in [-1, 1].
PairDistance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cached_lpips(device: torch.device | str = "cpu") -> PairDistance:
    """LPIPS version 0.1 as in torchmetrics, on AlexNet as in most papers, with weights from torch.hub's cache.

    Args:
        device: Where it runs.

    Raises:
        MetricUnavailable: If torchmetrics, torchvision or the weights are not there.
    """
    models = optional_module("torchvision.models", "LPIPS")
    metrics = optional_module("torchmetrics.image.lpip", "LPIPS")
    check_torch_weights(models.AlexNet_Weights.DEFAULT.url, "LPIPS")
    network = metrics.LearnedPerceptualImagePatchSimilarity(net_type="alex").to(device)

    def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        value = network(first.to(device), second.to(device))
        network.reset()  # otherwise it keeps every value, for a mean over all
        return value

    return distance


@torch.no_grad()
def lpips(
    network: PairDistance, first: Image.Image, second: Image.Image, where: np.ndarray | None = None
) -> float:
    """Learned perceptual distance of two pictures of one size; 0 or more.

    Args:
        network: `cached_lpips`, or any other function that compares pictures.
        first, second: The pictures.
        where: Booleans (height, width): everything else is made black in both.

    Raises:
        ValueError: If the pictures, or `where`, differ in size.

    Source: Zhang et al., arXiv:1801.03924.
    """
    if first.size != second.size:
        sizes = " and ".join(f"{one.width} x {one.height}" for one in (first, second))
        raise ValueError(f"LPIPS compares pictures of one size, got {sizes} pixels. Resize one beforehand.")
    both = (first, second) if where is None else (only_inside(first, where), only_inside(second, where))
    pixels = [as_planes(one) / 127.5 - 1 for one in both]
    return network(*pixels).item()


def ns_lpips(network: PairDistance, first: Image.Image, second: Image.Image, selected: np.ndarray) -> float:
    """LPIPS over the non-selected region: the selected region is made black in both pictures.

    The authors and PIE-Bench also cut it out in black. Features are averaged over the whole picture, including the
    black part, where they hardly differ: a large selection lowers the figure. The authors' script differs in three
    ways, so its figures are not comparable: its mask is soft, from cross-attention; it resizes to 256 x 256; and it
    passes the network pictures in [0, 1], where LPIPS expects [-1, 1].

    Args:
        network, first, second: As for `lpips`.
        selected: Booleans (height, width).

    Source: StyleDiffusion, arXiv:2303.15649, and eval_metrics/ns_lpips.py of github.com/sen-mao/StyleDiffusion.
    """
    return lpips(network, first, second, ~selected)
