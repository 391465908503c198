"""diffusers' LEDITS++ pipelines, for UNets without a layer at the resolution whose attention they read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import (
    LEditsPPPipelineStableDiffusion,
    LEditsPPPipelineStableDiffusionXL,
    UNet2DConditionModel,
)

from semantic_edit.attention_processors import attention_layers

HALVINGS = 2  # LEDITS++ reads the layers with a quarter of the latent's side


class NearestLayers:
    """Lets LEDITS++ read the cross-attention layers that are nearest to the resolution it wants, resized to it.

    diffusers' pipelines fail on a UNet without layers of exactly that resolution, as that of the still-life model. Like
    them, this leaves out the middle block.
    """

    if TYPE_CHECKING:
        init_latents: torch.Tensor
        unet: UNet2DConditionModel

    def prepare_unet(self, attention_store: Any, PnP: bool = False) -> None:
        """Called by the pipeline before the first step."""
        super().prepare_unet(attention_store, PnP)  # type: ignore[misc]
        layers = [one for one in attention_layers(self.unet) if not one.name.startswith("mid_block")]
        present = sorted({one.halvings for one in layers if one.is_cross})
        nearest = min(present, key=lambda halvings: abs(halvings - HALVINGS), default=HALVINGS)
        if nearest != HALVINGS:
            read, wanted = (_halved(self.init_latents, times) for times in (nearest, HALVINGS))
            attention_store.max_size = math.prod(read)
            attention_store.forward = _Resizing(attention_store.forward, read, wanted)


def _halved(latents: torch.Tensor, times: int) -> tuple[int, int]:
    """The resolution of the layers before which the latents' sides were halved a number of times."""
    height, width = (-(-side // 2**times) for side in latents.shape[-2:])
    return height, width


class _Resizing:
    """Passes attention maps on to a store, those of one resolution at another."""

    def __init__(self, store: Any, present: tuple[int, int], wanted: tuple[int, int]) -> None:
        self.store, self.present, self.wanted = store, present, wanted

    def __call__(self, maps: torch.Tensor, is_cross: bool, place_in_unet: str) -> None:
        """maps: (batch, heads, queries, tokens)."""
        if maps.shape[2] == math.prod(self.present):
            as_images = maps.transpose(2, 3).unflatten(3, self.present).flatten(0, 1)
            resized = F.interpolate(as_images, self.wanted, mode="area")
            maps = resized.flatten(2).unflatten(0, maps.shape[:2]).transpose(2, 3)
            self.store(maps, is_cross, place_in_unet)


class StableDiffusionLEDITS(NearestLayers, LEditsPPPipelineStableDiffusion):
    """LEDITS++ for Stable Diffusion 1.x and 2.x."""


class StableDiffusionXLLEDITS(NearestLayers, LEditsPPPipelineStableDiffusionXL):
    """LEDITS++ for SDXL."""
