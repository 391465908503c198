"""The still-life model's denoiser: noise predictions for 16x16 latents under the tiny CLIP's text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from semantic_edit.still_life.clip import tokenize
from training.denoising import BATCH, NOISE, LatentPool, train_denoiser
from training.loop import LoopSettings, device
from training.pool import pool_scenes

CAPTION_DROPOUT = 0.12
WORDINGS = 4  # captions drawn for each scene
SETTINGS = LoopSettings(steps=12_000, learning_rate=8e-4, ema_decay=0.999, warmup=200, weight_decay=0.01)


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule."""
    return DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def new_unet() -> UNet2DConditionModel:
    """Cross attention at 16x16 and 8x8 alone: the maps at 4x4 are too coarse to be of use."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,  # the number of heads, in spite of its name
    )


def train_unet(
    folder: Path,
    pool: LatentPool,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    settings: LoopSettings = SETTINGS,
    start: UNet2DConditionModel | None = None,
) -> UNet2DConditionModel:
    """Train on the pool; the text encoder stays as it is.

    `start` is trained on in place of a new model; a checkpoint in `folder` goes before either.
    """
    torch.manual_seed(settings.seed)
    unet = new_unet() if start is None else start
    text_encoder.to(device())
    captions = _captions(len(pool.latents), tokenizer)
    empty = tokenize(tokenizer, [""])[0]

    def tell(chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        ids = captions[chosen, torch.randint(WORDINGS, (BATCH,), generator=generator)].long()
        ids[torch.rand(BATCH, generator=generator) < CAPTION_DROPOUT] = empty
        return ids, {"encoder_hidden_states": text_encoder(ids.to(device())).last_hidden_state}

    train_denoiser(unet, tell, pool, tokenizer, settings, folder / "unet")
    return unet


def _captions(count: int, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Token ids (count, WORDINGS, tokens) of every pool scene in several wordings, the first of them the plain one."""
    texts = []
    for number, scene in enumerate(pool_scenes("train", count)):
        texts += [
            scene.caption(0),
            *(scene.caption(number * WORDINGS + extra) for extra in range(1, WORDINGS)),
        ]
    return tokenize(tokenizer, texts).view(count, WORDINGS, -1).to(torch.int16)
