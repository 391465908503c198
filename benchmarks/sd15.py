"""A model of Stable Diffusion 1.5's size with random weights, which takes as much time and needs no download.

Its configurations are those of the published models. The tokenizer is the still-life model's, padded to 77 tokens, and
the image encoder is StyleDiffusion's ViT-B/16. Its edits are meaningless. Every benchmark takes it as
`--model sd15-random`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from semantic_edit.disk.models import PIPELINE_METHODS
from semantic_edit.loading import load_pipeline
from semantic_edit.options import ModelChoice
from semantic_edit.still_life import model_path

NAME = "sd15-random"
UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "layers_per_block": 2,
}
VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
    "projection_dim": 512,
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def open_pipeline(
    pipeline: type[Pipeline], model: str | None, device: str | None = None, dtype: str | None = None
) -> Pipeline:
    """`load_pipeline`, but also for `sd15-random`, and without progress bars."""
    if model == NAME:
        pipe = random_pipeline(pipeline, device, dtype)
    else:
        method = next(name for name, one in PIPELINE_METHODS.items() if one == pipeline.__name__)
        pipe = load_pipeline(method, ModelChoice(model, device, dtype))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def side_of(model: str | None) -> int | None:
    """The side in pixels of the images that a model is timed on; `None` for the still-life model's own."""
    return VAE["sample_size"] if model == NAME else None  # type: ignore[return-value]


def random_pipeline(
    pipeline: type[Pipeline], device: str | None = None, dtype: str | None = None
) -> Pipeline:
    """The whole model, with the same weights each time on one device; float16 on a GPU, otherwise float32."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision = getattr(torch, dtype or ("float16" if where.type == "cuda" else "float32"))
    tokenizer = CLIPTokenizer.from_pretrained(model_path() / "tokenizer", model_max_length=77)
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    with where:
        models: dict[str, Any] = {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(**TEXT, **special, pad_token_id=tokenizer.pad_token_id)
            ),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
        }
    for model in models.values():
        model.eval()
        if precision != torch.float32:  # a cast to the same dtype would still warn
            model.to(precision)
    return pipeline(
        **models,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(),
        requires_safety_checker=False,
    )
