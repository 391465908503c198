"""A tiny FLUX.1: dev, which is told its guidance, and schnell, which is not."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel

from semantic_edit.pipelines import FluxDiffEditPipeline
from tests.conftest import small_text_config
from tests.flow.family import FlowFamily
from tests.flow.parts import small_t5, small_tokenizer, small_vae, small_word_tokenizer

WIDTH, POOLED_WIDTH = 32, 16


@functools.cache
def flux_transformer(told: bool = True, in_channels: int = 16) -> FluxTransformer2DModel:
    """told: Whether it takes a guidance scale, as dev does."""
    torch.manual_seed(1)
    model = FluxTransformer2DModel(
        in_channels=in_channels,
        num_layers=2,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=told,
    )
    return model.eval()


@functools.cache
def small_pooling_clip() -> CLIPTextModel:
    torch.manual_seed(0)
    config = small_text_config(small_tokenizer(), hidden_size=POOLED_WIDTH, num_hidden_layers=2)
    return CLIPTextModel(config).eval()


def make_flux(told: bool = True, **changes: Any) -> FluxPipeline:
    """Dev, whose scheduler shifts by the picture's size; unless `told`, schnell, whose does not."""
    components = {
        "transformer": flux_transformer(told),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0 if told else 1.0, use_dynamic_shifting=told),
        "vae": small_vae(channels=4, shift=0.05),
        "text_encoder": small_pooling_clip(),
        "tokenizer": small_tokenizer(),
        "text_encoder_2": small_t5(WIDTH),
        "tokenizer_2": small_word_tokenizer(),
    }
    pipe = FluxPipeline(**{**components, **changes})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _packed(latents: torch.Tensor, pipe: FluxPipeline) -> torch.Tensor:
    return pipe._pack_latents(latents, *latents.shape)


def _unpacked(tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    height, width = like.shape[-2:]
    return FluxPipeline._unpack_latents(tokens, 8 * height, 8 * width, 8)


FLUX_DEV = FlowFamily(
    "flux-dev",
    FluxDiffEditPipeline,
    make_flux,
    guidance={"true_cfg_scale": 4.0, "guidance_scale": 2.5},
    own={"max_sequence_length": 12},
    called={"max_sequence_length": 12},
    packed=_packed,
    unpacked=_unpacked,
)
FLUX_SCHNELL = FlowFamily(
    "flux-schnell",
    FluxDiffEditPipeline,
    functools.partial(make_flux, told=False),
    guidance={"true_cfg_scale": 4.0},
    own={"max_sequence_length": 12},
    called={"max_sequence_length": 12},
    packed=_packed,
    unpacked=_unpacked,
    encodes=False,
)
