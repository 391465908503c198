"""Structure distance: how differently two pictures' parts relate to each other, whatever they look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image


def self_similarity(features: torch.Tensor) -> torch.Tensor:
    """Cosine of each pair of tokens, (..., tokens, tokens), from features (..., tokens, width)."""
    directions = F.normalize(features.double(), dim=-1)
    return directions @ directions.transpose(-1, -2)


def structure_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two pictures' self-similarities.

    It does not see a rotation of the feature space, nor the tokens' lengths: both say what a picture looks like.

    Args:
        first, second: Features of the patches, (..., tokens, width). The papers take the keys of DINO ViT-B/8's last
            layer; `patch_features` gives those of a CLIP vision tower.

    Returns:
        (...), in [0, 4].

    Source: Splice, arXiv:2201.00424, Eq. 3 and 4, used by StyleDiffusion and PIE-Bench.
    """
    return (self_similarity(first) - self_similarity(second)).square().mean((-1, -2))


@torch.no_grad()
def patch_features(
    image_encoder: Any, feature_extractor: Any, pictures: Sequence[Image.Image]
) -> torch.Tensor:
    """What a CLIP vision tower's last layer makes of the patches, no class token: (pictures, patches, width)."""
    inputs = feature_extractor(images=list(pictures), return_tensors="pt").pixel_values
    tower = image_encoder(inputs.to(image_encoder.device, image_encoder.dtype))
    return tower.last_hidden_state[:, 1:]
