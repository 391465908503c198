"""Guidance as pure functions of predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

PredictNoise: TypeAlias = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]
"""`predict_noise(latents, timestep, prompt_embeds)` gives the model's raw output.

`latents` are (batch, channels, height, width) in float32, `prompt_embeds` (batch, tokens, width); the output
has the latents' shape and type.
"""


def classifier_free_guidance(
    noise_pred_uncond: torch.Tensor, noise_pred_text: torch.Tensor, guidance_scale: float | torch.Tensor
) -> torch.Tensor:
    """Move from the unconditional prediction through the conditional one; all tensors have the same shape.

    Source: arXiv:2207.12598, Eq. 6, with `guidance_scale` = 1 + w.
    """
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


def rescale_guidance(
    noise_pred: torch.Tensor, noise_pred_text: torch.Tensor, guidance_rescale: float
) -> torch.Tensor:
    """Bring the guided prediction's spread back towards the conditional one's, image by image.

    Args:
        noise_pred: (batch, channels, height, width), after guidance.
        noise_pred_text: The conditional prediction, same shape.
        guidance_rescale: 0 leaves `noise_pred` as it is, 1 gives it the conditional prediction's spread.

    Source: arXiv:2305.08891, Sec. 3.4.
    """
    if guidance_rescale == 0:
        return noise_pred
    dims = tuple(range(1, noise_pred.ndim))
    spread_text = noise_pred_text.std(dim=dims, keepdim=True)
    spread = noise_pred.std(dim=dims, keepdim=True)
    return noise_pred * (1 - guidance_rescale + guidance_rescale * spread_text / spread)


def predict_guided(
    predict_noise: PredictNoise,
    latents: torch.Tensor,
    timestep: int,
    prompt_embeds: torch.Tensor,
    negative_prompt_embeds: torch.Tensor | None = None,
    guidance_scale: float | torch.Tensor | None = 1.0,
    guidance_rescale: float = 0.0,
) -> torch.Tensor:
    """One prediction, guided where negative embeddings are given: both halves go through the model together.

    Args:
        latents: (batch, channels, height, width).
        prompt_embeds: (batch, tokens, width).
        negative_prompt_embeds: Same shape, or `None` for the plain conditional prediction.
        guidance_scale: One for all, or (batch, 1, 1, 1); `None` for the plain conditional prediction.
    """
    if negative_prompt_embeds is None or guidance_scale is None:
        return predict_noise(latents, timestep, prompt_embeds)
    embeds = torch.cat([negative_prompt_embeds, prompt_embeds])
    both = predict_noise(torch.cat([latents, latents]), timestep, embeds)
    noise_pred_uncond, noise_pred_text = both.chunk(2)
    noise_pred = classifier_free_guidance(noise_pred_uncond, noise_pred_text, guidance_scale)
    return rescale_guidance(noise_pred, noise_pred_text, guidance_rescale)
