"""A tiny Qwen-Image."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from semantic_edit.denoisers.transformer import latents_from, patches_of
from semantic_edit.pipelines import QwenImageDiffEditPipeline
from tests.flow.chat import chat_tokenizer
from tests.flow.family import FlowFamily

WIDTH = 16
CHANNELS = 4


@functools.cache
def transformer() -> QwenImageTransformer2DModel:
    torch.manual_seed(3)
    model = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=4 * CHANNELS,
        out_channels=CHANNELS,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    return model.eval()


@functools.cache
def vae() -> AutoencoderKLQwenImage:
    torch.manual_seed(0)
    model = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=CHANNELS,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        latents_mean=[-0.2, 0.1, 0.3, 0.0],
        latents_std=[0.7, 1.5, 1.0, 2.0],
    )
    return model.eval()


@functools.cache
def text_encoder() -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(2)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": WIDTH,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": len(chat_tokenizer()),
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
            "rope_scaling": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
        },
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def make_qwen(**changes: Any) -> QwenImagePipeline:
    """With the published scheduler's shifting."""
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": chat_tokenizer(),
        "transformer": transformer(),
    }
    pipe = QwenImagePipeline(**{**components, **changes})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _unpacked(tokens: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    return latents_from(tokens, *latents.shape[-2:])


def _without_padding(call: dict[str, Any]) -> dict[str, Any]:
    """Tokens that the mask leaves out count for nothing."""
    call = dict(call)
    mask, rows = call.pop("encoder_hidden_states_mask"), call["encoder_hidden_states"]
    kept = torch.ones(rows.shape[:2]) if mask is None else mask
    call["encoder_hidden_states"] = [row[one.bool()] for row, one in zip(rows, kept, strict=True)]
    call["img_shapes"] = [torch.tensor(one) for one in call["img_shapes"]]
    return call


QWEN = FlowFamily(
    "qwen",
    QwenImageDiffEditPipeline,
    make_qwen,
    guidance={"true_cfg_scale": 4.0},
    called={"max_sequence_length": 512},
    packed=lambda latents, _pipe: patches_of(latents),
    unpacked=_unpacked,
    received=_without_padding,
)
