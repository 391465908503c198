"""Structure distance: how differently the parts of two pictures relate to each other, whatever they look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from semantic_edit.evaluation.metrics.similarity import as_planes
from semantic_edit.evaluation.metrics.unavailable import from_cache

DINO = "facebook/dino-vitb8"
_SHORTER_SIDE, _LONGEST_SIDE = 224, 480
# The names that versions of transformers give to the layer that computes keys.
_KEYS = ("k_proj", "key")


def self_similarity(features: torch.Tensor) -> torch.Tensor:
    """Cosine of each pair of tokens, (..., tokens, tokens), from features (..., tokens, width)."""
    directions = F.normalize(features.cpu().double(), dim=-1)
    return directions @ directions.transpose(-1, -2)


def structure_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two pictures' self-similarities.

    It ignores rotations of the feature space and the lengths of tokens, both of which encode what a picture looks like.

    Args:
        first, second: Features of the tokens, (..., tokens, width). The papers use `dino_keys`; `patch_features`
            returns those of a CLIP vision tower. Figures of different networks are not comparable.

    Returns:
        (...), in [0, 4].

    Raises:
        ValueError: If the features' shapes differ.

    Source: Splice, arXiv:2201.00424, Eq. 3 and 4, used by StyleDiffusion and PIE-Bench.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"Features to compare must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}: "
            "take both by one network, of pictures of one size."
        )
    return (self_similarity(first) - self_similarity(second)).square().mean((-1, -2))


@torch.no_grad()
def patch_features(image_encoder: Any, feature_extractor: Any, images: Sequence[Image.Image]) -> torch.Tensor:
    """The patch tokens of a CLIP vision tower's last layer, without the class token: (pictures, patches, width)."""
    inputs = feature_extractor(images=list(images), return_tensors="pt").pixel_values
    tower = image_encoder(inputs.to(image_encoder.device, image_encoder.dtype))
    return tower.last_hidden_state[:, 1:]


@torch.no_grad()
def dino_keys(model: Any, image: Image.Image) -> torch.Tensor:
    """The keys of the last layer's attention, with the heads concatenated and the class token first: (tokens, width).

    As in Splice and PIE-Bench, the shorter side is resized to 224 pixels, or to fewer if the longer side would exceed
    480; nothing is cropped.

    Args:
        model: transformers' `ViTModel`.
        image: The picture.
    """
    found: list[torch.Tensor] = []
    layer = [module for name, module in model.named_modules() if name.rpartition(".")[2] in _KEYS][-1]
    hook = layer.register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        model(_dino_pixels(image).to(model.device, model.dtype), interpolate_pos_encoding=True)
    finally:
        hook.remove()
    return found[0][0]


def cached_dino(
    device: torch.device | str = "cpu", name: str = DINO
) -> Callable[[Image.Image], torch.Tensor]:
    """`dino_keys` of DINO ViT-B/8, or of another model.

    Args:
        device: Where it runs.
        name: A folder, or a name in the Hugging Face cache.

    Raises:
        MetricUnavailable: If the weights are not there.
    """
    from transformers import ViTModel

    model = from_cache(ViTModel.from_pretrained, name, "The structure distance of DINO").eval().to(device)
    return lambda image: dino_keys(model, image)


def _dino_pixels(image: Image.Image) -> torch.Tensor:
    scale = min(_SHORTER_SIDE / min(image.size), _LONGEST_SIDE / max(image.size))
    size = (round(image.height * scale), round(image.width * scale))
    pixels = as_planes(image) / 255.0
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return (resized - mean) / deviation
