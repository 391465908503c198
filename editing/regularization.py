"""Pix2pix-zero's regularisation of inverted noise, which pulls predictions towards white Gaussian noise.

Neither paper of this package uses it; diffusers' DiffEdit pipeline offers it in `invert`, off by default.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from semantic_edit.editing.schedule import Schedule

COARSEST_SIDE = 8


def auto_correlation_loss(noise: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Squared correlation of each channel with itself shifted at random, over a pyramid of halved sizes.

    Args:
        noise: (batch, channels, height, width).

    Source: pix2pix-zero, arXiv:2302.03027, Eq. 2.
    """
    loss = noise.new_zeros(())
    while True:
        place = "cpu" if generator is None else generator.device
        shift = int(
            torch.randint(max(1, noise.shape[-2] // 2), (1,), generator=generator, device=place).item()
        )
        for dim in (-2, -1):
            correlation = (noise * noise.roll(shift, dims=dim)).mean((-2, -1))
            loss = loss + correlation.square().sum()
        if min(noise.shape[-2:]) <= COARSEST_SIDE:
            return loss
        noise = F.avg_pool2d(noise, 2)


def kl_loss(noise: torch.Tensor) -> torch.Tensor:
    """Divergence of each picture's mean and variance from the standard normal's, summed over (batch, ...).

    Source: pix2pix-zero, arXiv:2302.03027, Sec. 3.1.
    """
    dims = tuple(range(1, noise.ndim))
    variance = noise.var(dim=dims)
    return (variance + noise.mean(dim=dims).square() - 1 - torch.log(variance + 1e-7)).sum()


def noise_regularizer(
    schedule: Schedule,
    num_reg_steps: int,
    lambda_auto_corr: float = 20.0,
    lambda_kl: float = 20.0,
    num_auto_corr_rolls: int = 5,
    generator: torch.Generator | None = None,
) -> Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]:
    """Gradient steps on a prediction, as `adjust_prediction` of `invert_latents`."""

    def gradient(
        noise_pred: torch.Tensor,
        latents: torch.Tensor,
        level: int,
        loss_of: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            variable = noise_pred.detach().clone().requires_grad_(True)
            loss = loss_of(predicted_noise(variable, latents, schedule, level))
            return torch.autograd.grad(loss, variable)[0]

    def correlation_loss(noise: torch.Tensor) -> torch.Tensor:
        return auto_correlation_loss(noise, generator)

    def adjust(noise_pred: torch.Tensor, latents: torch.Tensor, level: int) -> torch.Tensor:
        for _ in range(num_reg_steps):
            if lambda_auto_corr > 0:
                for _ in range(num_auto_corr_rolls):
                    slope = gradient(noise_pred, latents, level, correlation_loss)
                    noise_pred = noise_pred - lambda_auto_corr / num_auto_corr_rolls * slope
            if lambda_kl > 0:
                noise_pred = noise_pred - lambda_kl * gradient(noise_pred, latents, level, kl_loss)
        return noise_pred

    return adjust


def predicted_noise(
    noise_pred: torch.Tensor, latents: torch.Tensor, schedule: Schedule, level: int
) -> torch.Tensor:
    """The noise that a prediction of the schedule's type implies at a level; tensors of one shape."""
    alpha = schedule.alphas_cumprod[level]
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    if schedule.prediction_type == "epsilon":
        return noise_pred
    if schedule.prediction_type == "sample":
        return (latents - signal * noise_pred) / noise
    return signal * noise_pred + noise * latents
