"""The still-life model's denoiser: noise predictions for 16x16 latents under the tiny CLIP's text."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTokenizer

from semantic_edit.still_life.clip import tokenize
from training.grounding import ObjectWords, grounding_loss, recorded_maps
from training.loop import LoopSettings, device, train
from training.pool import pool_scenes

BATCH = 32
CAPTION_DROPOUT = 0.12
SNR_CAP = 5.0  # min-SNR weighting, arXiv 2303.09556
GROUNDING = 0.05  # the weight of the grounding loss
WORDINGS = 4  # captions drawn for each scene
SETTINGS = LoopSettings(steps=12_000, learning_rate=8e-4, ema_decay=0.999, warmup=200, weight_decay=0.01)


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


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
    latents: torch.Tensor,
    coverage: torch.Tensor,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    settings: LoopSettings = SETTINGS,
    start: UNet2DConditionModel | None = None,
) -> UNet2DConditionModel:
    """Train on the pool's scaled latents (pictures, 4, 16, 16); the text encoder stays as it is.

    `coverage`, (pictures, 2, 16, 16), says where the objects are (see `pool_coverage`).
    `start` is trained on in place of a new model; a checkpoint in `folder` goes before either.
    """
    torch.manual_seed(settings.seed)
    where = device()
    unet = (new_unet() if start is None else start).to(where)
    if where.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused backward is slow on CPUs in bfloat16
    text_encoder = text_encoder.to(where).requires_grad_(False)
    alphas = new_scheduler().alphas_cumprod.to(where)
    weights = (SNR_CAP * (1 - alphas) / alphas).clamp(max=1.0)
    captions = _captions(len(latents), tokenizer)
    empty = tokenize(tokenizer, [""])[0]
    find_words = ObjectWords(tokenizer)

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = torch.randint(len(latents), (BATCH,), generator=generator)
        ids = captions[chosen, torch.randint(WORDINGS, (BATCH,), generator=generator)].long()
        ids[torch.rand(BATCH, generator=generator) < CAPTION_DROPOUT] = empty
        # Each batch covers the schedule evenly, which makes its gradient less noisy.
        spread = (torch.rand(1, generator=generator) + torch.arange(BATCH) / BATCH) % 1.0
        timesteps = (spread * len(alphas)).long().to(where)
        clean = latents[chosen].float().to(where)
        noise = torch.randn(clean.shape, generator=generator).to(where)
        level = alphas[timesteps].view(-1, 1, 1, 1)
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        with torch.autocast(where.type, torch.bfloat16):
            with torch.no_grad():
                embeds = text_encoder(ids.to(where)).last_hidden_state
            maps.clear()
            noise_pred = unet(noisy, timesteps, embeds).sample
        errors = (noise_pred.float() - noise).square().mean(dim=(1, 2, 3))
        grounding = grounding_loss(maps, find_words(ids).to(where), coverage[chosen].float().to(where))
        figures = {"mse": errors.mean().item(), "outside": grounding.item()}
        return (weights[timesteps] * errors).mean() + GROUNDING * grounding, figures

    with recorded_maps(unet) as maps:
        train(unet, loss, settings, folder / "unet")
    unet.set_default_attn_processor()
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
