"""A tiny real Stable Diffusion XL."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SDXL_SCHEDULE = {  # the base model's, with what its file still says of other samplers
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}


@pytest.fixture
def sdxl_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler.from_config(SDXL_SCHEDULE)


@pytest.fixture(scope="session")
def tokenizer_2(tokenizer: CLIPTokenizer) -> CLIPTokenizer:
    """The same words, padded with another token than the first one, as in SDXL."""
    second = copy.deepcopy(tokenizer)
    second.pad_token = ","
    return second


@pytest.fixture(scope="session")
def text_encoder_2(tokenizer_2: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Narrower than the first one, and its pooled embedding narrower still: no two widths may be mistaken."""
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer_2),
        hidden_size=24,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=20,
        max_position_embeddings=tokenizer_2.model_max_length,
        bos_token_id=tokenizer_2.bos_token_id,
        eos_token_id=tokenizer_2.eos_token_id,
        pad_token_id=tokenizer_2.pad_token_id,
    )
    return CLIPTextModelWithProjection(config).eval()


@pytest.fixture(scope="session")
def make_xl_unet(make_unet: Callable[..., UNet2DConditionModel]) -> Callable[..., UNet2DConditionModel]:
    """Builds a UNet of SDXL's layout: several transformers in a block, text and sizes added to the time embedding."""

    def make(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
        settings = {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
            "cross_attention_dim": 32 + 24,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        }
        return make_unet(seed, **{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def xl_unet(make_xl_unet: Callable[..., UNet2DConditionModel]) -> UNet2DConditionModel:
    return make_xl_unet()


@pytest.fixture(scope="session")
def make_xl_pipe(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection,
    tokenizer: CLIPTokenizer,
    tokenizer_2: CLIPTokenizer,
    xl_unet: UNet2DConditionModel,
) -> Callable[..., StableDiffusionXLPipeline]:
    """Builds diffusers' own silent pipeline; keyword arguments replace components and settings."""

    def make(**changes: Any) -> StableDiffusionXLPipeline:
        components = {
            "vae": vae,
            "text_encoder": text_encoder,
            "text_encoder_2": text_encoder_2,
            "tokenizer": tokenizer,
            "tokenizer_2": tokenizer_2,
            "unet": xl_unet,
            "scheduler": EulerDiscreteScheduler.from_config(SDXL_SCHEDULE),
            "add_watermarker": False,
        }
        pipe = StableDiffusionXLPipeline(**{**components, **changes})
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture(scope="session")
def in_xl_layout(
    make_unet: Callable[..., UNet2DConditionModel],
) -> Callable[[UNet2DConditionModel], UNet2DConditionModel]:
    """Builds a UNet of SDXL's layout that computes what one of Stable Diffusion's layout computes.

    Its cross attention reads the first encoder's part of the text only, and what it is added to its time is nothing.
    """

    def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        added = {
            "cross_attention_dim": unet.config.cross_attention_dim + 24,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        }
        wide = UNet2DConditionModel.from_config(unet.config, **added).eval()
        narrow = unet.state_dict()
        with torch.no_grad():
            for name, parameter in wide.named_parameters():
                if name.startswith("add_embedding.linear_2."):
                    parameter.zero_()
                elif name in narrow and narrow[name].shape == parameter.shape:
                    parameter.copy_(narrow[name])
                elif name in narrow:
                    parameter.zero_()[:, : narrow[name].shape[1]] = narrow[name]
        return wide

    return widened
