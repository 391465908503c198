"""diffusers' LEDITS++ pipelines, for UNets without a layer at the resolution whose attention they read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import LEditsPPPipelineStableDiffusion, LEditsPPPipelineStableDiffusionXL

from semantic_edit.denoisers import unet_denoiser_of

PART = 4  # LEDITS++ reads the layers with a quarter of the latent's side


class NearestLayers:
    """Lets LEDITS++ read the cross-attention layers that are nearest to the resolution it wants, resized to it.

    diffusers' pipelines fail on a UNet without layers of exactly that resolution, as that of the still-life model.
    """

    if TYPE_CHECKING:
        init_latents: torch.Tensor

    def prepare_unet(self, attention_store: Any, PnP: bool = False) -> None:
        """Called by the pipeline before the first step."""
        super().prepare_unet(attention_store, PnP)  # type: ignore[misc]
        sides = self.init_latents.shape[-2:]
        wanted = (sides[0] // PART, sides[1] // PART)
        present = unet_denoiser_of(self).attention_size(*sides, side=math.sqrt(math.prod(wanted)))
        if present != wanted:
            attention_store.max_size = math.prod(present)
            attention_store.forward = _Resizing(attention_store.forward, present, wanted)


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
