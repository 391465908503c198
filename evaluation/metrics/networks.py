"""The networks that metrics use to see pictures, each prepared when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.evaluation.metrics.clip import Clip, cached_clip, pipeline_clip
from semantic_edit.evaluation.metrics.features import vae_layers, vision_layers
from semantic_edit.evaluation.metrics.fid import Embed, cached_inception
from semantic_edit.evaluation.metrics.lpips import PairDistance, cached_lpips
from semantic_edit.evaluation.metrics.structure import cached_dino, patch_features
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable

Layers = Callable[[Image.Image], list[torch.Tensor]]
Tokens = Callable[[Image.Image], torch.Tensor]


class Networks:
    """A loaded pipeline's own networks, and published ones, on the pipeline's device.

    Each raises `MetricUnavailable` if the pipeline lacks it, or the library or the weights are not there.
    """

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self._pipe = pipe

    @cached_property
    def vae(self) -> Layers:
        """Features of the VAE's encoder, layer by layer."""
        return partial(vae_layers, self._pipe)

    @cached_property
    def vision(self) -> Layers:
        """Features of the CLIP vision tower, layer by layer."""
        return partial(vision_layers, *self._tower())

    @cached_property
    def patches(self) -> Tokens:
        """The patch tokens of the CLIP vision tower's last layer."""
        tower, processor = self._tower()
        return lambda image: patch_features(tower, processor, [image.convert("RGB")])[0]

    @cached_property
    def clip(self) -> Clip:
        """The pipeline's CLIP, if its two towers share a space."""
        return pipeline_clip(self._pipe)

    @cached_property
    def published_clip(self) -> Clip:
        """OpenAI's CLIP ViT-L/14."""
        return cached_clip(self._pipe.device)

    @cached_property
    def lpips(self) -> PairDistance:
        """LPIPS on AlexNet."""
        return cached_lpips(self._pipe.device)

    @cached_property
    def dino(self) -> Tokens:
        """Keys of DINO ViT-B/8."""
        return cached_dino(self._pipe.device)

    @cached_property
    def pooled_vision(self) -> Embed:
        """The mean over the patch tokens of the CLIP vision tower's last layer."""
        tower, processor = self._tower()
        return lambda images: patch_features(tower, processor, images).mean(dim=1).float().cpu()

    @cached_property
    def inception(self) -> Embed:
        """FID's own Inception-v3."""
        return cached_inception(self._pipe.device)

    def _tower(self) -> tuple[Any, Any]:
        found = getattr(self._pipe, "image_encoder", None), getattr(self._pipe, "feature_extractor", None)
        if None in found:
            raise MetricUnavailable(
                "This metric sees pictures through the pipeline's `image_encoder` and `feature_extractor`, and the "
                "pipeline lacks one. Add them, or take a metric whose name begins with vae_, or `dino_structure`."
            )
        return found
