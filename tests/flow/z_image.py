"""A tiny Z-Image, and Z-Image-Turbo."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from semantic_edit.pipelines import ZImageDiffEditPipeline
from tests.flow.chat import chat_tokenizer
from tests.flow.family import FlowFamily
from tests.flow.parts import small_vae

WIDTH = 16


@functools.cache
def transformer() -> ZImageTransformer2DModel:
    torch.manual_seed(3)
    model = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[256, 32, 32],
    )
    torch.nn.init.normal_(model.x_pad_token)
    torch.nn.init.normal_(model.cap_pad_token)
    return model.eval()


@functools.cache
def text_encoder() -> Qwen3Model:
    torch.manual_seed(2)
    config = Qwen3Config(
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=len(chat_tokenizer()),
    )
    return Qwen3Model(config).eval()


def make_z_image(shift: float = 6.0, **changes: Any) -> ZImagePipeline:
    """With the scheduler of Z-Image's folder; with a shift of 3, of Turbo's."""
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=shift),
        "vae": small_vae(channels=4, shift=0.05),
        "text_encoder": text_encoder(),
        "tokenizer": chat_tokenizer(),
        "transformer": transformer(),
    }
    pipe = ZImagePipeline(**{**components, **changes})
    pipe.set_progress_bar_config(disable=True)
    return pipe


Z_IMAGE = FlowFamily(
    "z-image",
    ZImageDiffEditPipeline,
    make_z_image,
    own={"max_sequence_length": 64},
    called={"max_sequence_length": 64},
)
Z_IMAGE_LIMITED = FlowFamily(
    "z-image-limited",
    ZImageDiffEditPipeline,
    make_z_image,
    guidance={"guidance_scale": 4.0, "cfg_normalization": 1.0},
    own={"max_sequence_length": 64},
    called={"max_sequence_length": 64},
)
Z_IMAGE_TURBO = FlowFamily(
    "z-image-turbo",
    ZImageDiffEditPipeline,
    functools.partial(make_z_image, shift=3.0),
    own={"max_sequence_length": 64},
    called={"max_sequence_length": 64},
    encodes=False,
)
