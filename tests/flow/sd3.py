"""A tiny Stable Diffusion 3, with and without its third text encoder."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

from semantic_edit.pipelines import StableDiffusion3DiffEditPipeline
from tests.flow.family import FlowFamily
from tests.flow.parts import small_clip, small_t5, small_tokenizer, small_vae, small_word_tokenizer

WIDTH = 32


@functools.cache
def transformer() -> SD3Transformer2DModel:
    torch.manual_seed(3)
    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=24,
        qk_norm="rms_norm",
    )
    return model.eval()


def make_sd3(third: bool = True, **changes: Any) -> StableDiffusion3Pipeline:
    """Its two CLIPs are each 16 wide, its T5 32; without `third`, zeros stand for what T5 says."""
    tokenizer = small_tokenizer()
    components = {
        "transformer": transformer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": small_vae(channels=4, shift=0.05),
        "text_encoder": small_clip(tokenizer, 0),
        "tokenizer": tokenizer,
        "text_encoder_2": small_clip(tokenizer, 1),
        "tokenizer_2": tokenizer,
        "text_encoder_3": small_t5(WIDTH) if third else None,
        "tokenizer_3": small_word_tokenizer() if third else None,
    }
    pipe = StableDiffusion3Pipeline(**{**components, **changes})
    pipe.set_progress_bar_config(disable=True)
    return pipe


SD3 = FlowFamily(
    "sd3",
    StableDiffusion3DiffEditPipeline,
    make_sd3,
    own={"max_sequence_length": 12},
    called={"max_sequence_length": 12},
)
SD3_WITHOUT_T5 = FlowFamily(
    "sd3-without-t5",
    StableDiffusion3DiffEditPipeline,
    functools.partial(make_sd3, third=False),
    own={"max_sequence_length": 12},
    called={"max_sequence_length": 12},
)
