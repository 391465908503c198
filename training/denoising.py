"""How a still-life denoiser learns, whatever it is told besides latents and time: noise, and where words look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from training.grounding import ObjectWords, grounding_loss, recorded_maps
from training.loop import LoopSettings, device, train

BATCH = 32
SNR_CAP = 5.0  # min-SNR weighting, arXiv 2303.09556
GROUNDING = 0.05  # the weight of the grounding loss
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # Stable Diffusion's

# From pictures' numbers and the step's random generator: token ids (batch, tokens), and what the UNet is called with.
Tell = Callable[[torch.Tensor, torch.Generator], tuple[torch.Tensor, dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class LatentPool:
    """latents: scaled, (pictures, 4, 16, 16); coverage: where the objects are, (pictures, 2, 16, 16)."""

    latents: torch.Tensor
    coverage: torch.Tensor


def train_denoiser(
    unet: UNet2DConditionModel,
    tell: Tell,
    pool: LatentPool,
    tokenizer: CLIPTokenizer,
    settings: LoopSettings,
    folder: Path,
) -> None:
    """Train `unet` in place to predict noise; a checkpoint in `folder` goes before its weights.

    The token ids that `tell` gives are those of `tokenizer`; what it computes is not trained.
    """
    where = device()
    unet.to(where)
    if where.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused backward is slow on CPUs in bfloat16
    alphas = DDIMScheduler(**NOISE).alphas_cumprod.to(where)
    weights = (SNR_CAP * (1 - alphas) / alphas).clamp(max=1.0)
    find_words = ObjectWords(tokenizer)

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = torch.randint(len(pool.latents), (BATCH,), generator=generator)
        with torch.no_grad(), torch.autocast(where.type, torch.bfloat16):
            ids, told = tell(chosen, generator)
        # Each batch covers the schedule evenly, which makes its gradient less noisy.
        spread = (torch.rand(1, generator=generator) + torch.arange(BATCH) / BATCH) % 1.0
        timesteps = (spread * len(alphas)).long().to(where)
        clean = pool.latents[chosen].float().to(where)
        noise = torch.randn(clean.shape, generator=generator).to(where)
        level = alphas[timesteps].view(-1, 1, 1, 1)
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        maps.clear()
        with torch.autocast(where.type, torch.bfloat16):
            noise_pred = unet(noisy, timesteps, **told).sample
        errors = (noise_pred.float() - noise).square().mean(dim=(1, 2, 3))
        grounding = grounding_loss(maps, find_words(ids).to(where), pool.coverage[chosen].float().to(where))
        figures = {"mse": errors.mean().item(), "outside": grounding.item()}
        return (weights[timesteps] * errors).mean() + GROUNDING * grounding, figures

    with recorded_maps(unet) as maps:
        train(unet, loss, settings, folder)
    unet.set_default_attn_processor()
