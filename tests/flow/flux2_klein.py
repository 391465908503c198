"""A tiny FLUX.2 klein: a base model, and a distilled one."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen3Config, Qwen3ForCausalLM

from semantic_edit.denoisers.transformer import latents_from
from semantic_edit.pipelines import Flux2KleinDiffEditPipeline
from tests.flow.chat import chat_tokenizer
from tests.flow.family import FlowFamily

WIDTH = 8
CHANNELS = 4
SHORT = {"max_sequence_length": 64}


@functools.cache
def klein_transformer() -> Flux2Transformer2DModel:
    torch.manual_seed(3)
    model = Flux2Transformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    with torch.no_grad():  # velocities that bend as little as a trained model's
        model.proj_out.weight.mul_(0.3)
    return model.eval()


@functools.cache
def klein_vae() -> AutoencoderKLFlux2:
    """Its statistics differ from place to place in a patch."""
    torch.manual_seed(0)
    model = AutoencoderKLFlux2(
        block_out_channels=(4, 8, 8, 8), latent_channels=CHANNELS, norm_num_groups=4, layers_per_block=1
    )
    model.bn.running_mean.uniform_(-0.5, 0.5)
    model.bn.running_var.uniform_(0.5, 3.0)
    return model.eval()


@functools.cache
def klein_text_encoder() -> Qwen3ForCausalLM:
    """As deep as the last of the layers that are read."""
    torch.manual_seed(2)
    config = Qwen3Config(
        hidden_size=WIDTH,
        intermediate_size=8,
        num_hidden_layers=28,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=len(chat_tokenizer()),
    )
    return Qwen3ForCausalLM(config).eval()


def make_klein(is_distilled: bool = False, **changes: Any) -> Flux2KleinPipeline:
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        "vae": klein_vae(),
        "text_encoder": klein_text_encoder(),
        "tokenizer": chat_tokenizer(),
        "transformer": klein_transformer(),
    }
    pipe = Flux2KleinPipeline(**{**components, **changes}, is_distilled=is_distilled)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _negative(pipe: Flux2KleinPipeline, text: str) -> dict[str, Any]:
    return {"negative_prompt_embeds": pipe.encode_prompt(text, **SHORT)[0]}


KLEIN = FlowFamily(
    "klein",
    Flux2KleinDiffEditPipeline,
    make_klein,
    own=SHORT,
    own_negative=_negative,
    called=SHORT,
    packed=lambda latents, pipe: pipe._patchify_latents(latents),
    unpacked=lambda tokens, latents: latents_from(tokens, *latents.shape[-2:]),
)
KLEIN_DISTILLED = FlowFamily(
    "klein-distilled",
    Flux2KleinDiffEditPipeline,
    functools.partial(make_klein, is_distilled=True),
    guidance={"guidance_scale": 1.0},
    own=SHORT,
    own_negative=lambda _pipe, _text: {},
    called=SHORT,
    packed=KLEIN.packed,
    unpacked=KLEIN.unpacked,
    guides=False,
    encodes=False,
)
