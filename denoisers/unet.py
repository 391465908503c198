"""Families with a UNet that cross-attends to a prompt, and a VAE with a scaling factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.layers import nearest_queries
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.denoisers.identity import network_identity
from semantic_edit.denoisers.latent import LatentComponents, LatentDenoiser
from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import check_finite
from semantic_edit.editing.frames import Size
from semantic_edit.editing.schedule import Schedule


class UNetComponents(LatentComponents, Protocol):
    """The components of a pipeline of these families."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel | None
    tokenizer: CLIPTokenizer | None
    maybe_convert_prompt: Callable[..., Any]


@dataclass(frozen=True, eq=False)
class UNetDenoiser(LatentDenoiser):
    """What Stable Diffusion's families have in common.

    cross_attention_kwargs: For the attention processors; "scale" is the LoRA scale, which also applies to the text
        encoder.
    network: Evaluated in place of the pipeline's UNet; see `through`.
    """

    pipe: UNetComponents
    cross_attention_kwargs: dict[str, Any] | None = None
    network: BorrowedNetwork | None = None

    @property
    def unet(self) -> UNet2DConditionModel:
        """The network itself."""
        return self.pipe.unet

    def through(self, network: BorrowedNetwork) -> UNetDenoiser:
        """The same denoiser, but evaluating its UNet through a borrowed network."""
        return replace(self, network=network)

    @property
    def cell(self) -> int:  # type: ignore[override]
        """Pixels along a latent's side."""
        return self.pipe.vae_scale_factor

    @property
    def multiple(self) -> int:  # type: ignore[override]
        """What both sides of a picture must be multiples of, in pixels."""
        return self.pipe.vae_scale_factor

    @property
    def own_size(self) -> Size:  # type: ignore[override]
        """The model's native width and height, in pixels."""
        sides = self.unet.config.sample_size or 64
        height, width = sides if isinstance(sides, (list, tuple)) else (sides, sides)
        return width * self.cell, height * self.cell

    @property
    def network_dtype(self) -> torch.dtype:
        """The UNet's."""
        return self.unet.dtype

    @property
    def text_widths(self) -> set[int]:
        """The widths of the token embeddings that cross attention takes; one in almost every model."""
        width = self.unet.config.cross_attention_dim
        return set(width) if isinstance(width, (list, tuple)) else {width}

    @property
    def text_width(self) -> int | None:
        """The width of the token embeddings that cross attention takes, if it is a single number."""
        widths = self.text_widths
        return widths.pop() if len(widths) == 1 else None

    def identity(self) -> str:
        """See `network_identity`."""
        return network_identity(self.unet, self.cross_attention_kwargs)

    def schedule(self, num_inference_steps: int, latent_size: tuple[int, int] | None = None) -> Schedule:
        """DDIM's levels for the scheduler's config; see `schedule_from_scheduler`."""
        return schedule_from_scheduler(self.pipe.scheduler, num_inference_steps)

    def attention_size(
        self, latent_height: int, latent_width: int, side: float | None = None
    ) -> tuple[int, int]:
        """The cross-attention resolution nearest to a given side; see `nearest_queries`."""
        return nearest_queries(self.unet, latent_height, latent_width, side)

    def predict(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """Evaluate the UNet; see [`Denoiser.predict`]."""
        if not isinstance(timestep, torch.Tensor):
            # a tensor, because torch.compile makes a separate graph for each integer; created on the device, because
            # copying it there would wait for the GPU at every step
            timestep = torch.full((), timestep, device=latents.device)  # type: ignore[assignment]
        return (self.network or self.unet)(
            latents.to(given.dtype),
            timestep,
            encoder_hidden_states=given.prompt_embeds,
            cross_attention_kwargs=self.cross_attention_kwargs,
            return_dict=False,
            **self._added(latents, given),
        )[0].float()

    def attention_maps(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """The cross-attention maps near StyleDiffusion's resolution; see [`Denoiser.attention_maps`]."""
        size = self.attention_size(*latents.shape[-2:])
        with (
            lock_of(self.unet),
            BorrowedNetwork(self.unet) as unet,
            captured_cross_attention(unet, math.prod(size)) as maps,
        ):
            predicted = self.through(unet).predict(latents, timestep, given)
        check_finite(f"the prediction that is looked into (timestep {timestep})", predicted)
        return maps.mean().unflatten(1, size)

    def _added(self, latents: torch.Tensor, given: Conditioning) -> dict[str, Any]:
        """Further arguments for the UNet."""
        return {}

    def _foreign_needs(self) -> str | None:
        """What the UNet needs that no family here provides, or `None`."""
        config, channels = self.unet.config, self.latent_channels
        if config.get("encoder_hid_dim_type") == "ip_image_proj":
            return "an IP-Adapter's image; call `unload_ip_adapter()` on the pipeline that loaded it"
        if config.in_channels != channels:
            return (
                f"{config.in_channels} input channels where the VAE gives {channels}, as inpainting models do"
            )
        if config.get("time_cond_proj_dim") is not None:
            return "an embedded guidance scale, as latent consistency models do"
        if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
            return "class labels, as upscalers do"
        return None
