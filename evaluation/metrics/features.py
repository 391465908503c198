"""Feature distance: how differently a network sees two pictures, place by place, using only a pipeline's weights.

It is computed like LPIPS, but with another network and without LPIPS' learned weights, so the two are not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.metrics.similarity import as_planes


def feature_distance(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float:
    """Squared distance of the unit vectors at each place, averaged over the places of a layer, then over layers.

    Args:
        first, second: A picture's features layer by layer, each (places, width).

    Returns:
        In [0, 4].

    Raises:
        ValueError: If the features' shapes differ.

    Source: Zhang et al., arXiv:1801.03924, Eq. 1, with all weights one and the layers averaged.
    """
    shapes = [[tuple(layer.shape) for layer in layers] for layers in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Features to compare must have one shape a layer, got {shapes[0]} and {shapes[1]}: "
            "take both by one network, of pictures of one size."
        )
    distances = [
        (F.normalize(one.cpu().double(), dim=-1) - F.normalize(two.cpu().double(), dim=-1))
        .square()
        .sum(-1)
        .mean()
        for one, two in zip(first, second, strict=True)
    ]
    return torch.stack(distances).mean().item()


@torch.no_grad()
def vision_layers(image_encoder: Any, feature_extractor: Any, image: Image.Image) -> list[torch.Tensor]:
    """The patch tokens after each layer of a CLIP vision tower, without the class token: (patches, width) each."""
    pixels = feature_extractor(images=image.convert("RGB"), return_tensors="pt").pixel_values
    tower = image_encoder(pixels.to(image_encoder.device, image_encoder.dtype), output_hidden_states=True)
    return [layer[0, 1:] for layer in tower.hidden_states[1:]]


@torch.no_grad()
def vae_layers(pipe: DiffusionPipeline, image: Image.Image) -> list[torch.Tensor]:
    """The features after each downsampling block of a pipeline's VAE encoder: (places, channels) each."""
    found: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda module, inputs, output: found.append(output))
        for block in pipe.vae.encoder.down_blocks
    ]
    try:
        denoiser_of(pipe).encode(as_planes(image) / 255)
    finally:
        for hook in hooks:
            hook.remove()
    return [layer[0].flatten(1).T for layer in found]
