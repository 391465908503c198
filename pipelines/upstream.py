"""What exists only because scripts for diffusers' own StableDiffusionDiffEditPipeline pass it.

Bare latents in place of a `Trajectory`, `eta`, `latents`, and pix2pix-zero's regularisation of inverted noise, which
pulls predictions towards white Gaussian noise: neither of the papers behind this package uses it, and it is off by
default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F

from semantic_edit.disk.numbers import plain_number
from semantic_edit.disk.reading import is_finite_number, shortened
from semantic_edit.disk.telling import warn_caller
from semantic_edit.editing.inversion import PredictAt
from semantic_edit.editing.numbers import check_dense
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.trajectory import Trajectory

COARSEST_SIDE = 8


def check_decoding(eta: Any, latents: Any) -> None:
    """Raise a ValueError unless `eta` is 0, and warn that diffusers' `latents` argument has no effect."""
    number = plain_number(eta)
    if not is_finite_number(number) or number != 0:
        raise ValueError(
            f"`eta` must be 0, got {shortened(eta)}: with added noise, decoding would not retrace the inversion."
        )
    if latents is not None:
        warn_caller(
            "`latents` has no effect, as in diffusers' DiffEdit: decoding starts from the inverted picture."
        )


def trajectory_from_image_latents(
    image_latents: Any, schedule: Schedule, levels: int, strength: float, scaling_factor: float
) -> Trajectory:
    """Read `image_latents` as [`DiffEditPipeline.invert`] returns them: noisiest first, the picture's own last.

    Args:
        image_latents: (batch, levels + 1, channels, height, width), a list of such tensors to concatenate, or
            (batch * (levels + 1), channels, height, width).
        schedule: The call's schedule.
        levels: Number of levels that the call needs.
        strength: The call's `inpaint_strength`.
        scaling_factor: The VAE's.

    Raises:
        ValueError: If they are not tensors of this shape, or have too few levels.
    """
    parts = list(image_latents) if isinstance(image_latents, (list, tuple)) else [image_latents]
    if not parts or not all(isinstance(part, torch.Tensor) and part.is_floating_point() for part in parts):
        raise ValueError(
            "`image_latents` must be a floating-point tensor or a list of them, as `invert(...).latents` "
            f"gives, got {type(image_latents).__name__}."
        )
    for part in parts:
        check_dense("image_latents", part)
    if len({part.shape[1:] for part in parts}) > 1 or not parts[0].ndim:
        raise ValueError(
            "`image_latents` must hold tensors (batch, levels + 1, channels, height, width) of one size, got "
            f"{shortened([tuple(part.shape) for part in parts])}."
        )
    latents = torch.cat(parts).detach()
    if latents.ndim == 4 and latents.shape[0] % (levels + 1) == 0:
        latents = latents.unflatten(0, (-1, levels + 1))
    steps = schedule.num_inference_steps
    if latents.ndim != 5 or not levels + 1 <= latents.shape[1] <= steps + 1:
        hint = ""
        if latents.ndim == 5 and latents.shape[1] > steps + 1:
            hint = f" These levels are from more than {steps} steps; call with the number that `invert` had."
        elif latents.ndim == 5:
            hint = (
                " Invert with an `inpaint_strength` that is as high as the call's. Latents of diffusers' own "
                "StableDiffusionDiffEditPipeline lack the picture's own one, the last; invert again with this pipeline."
            )
        raise ValueError(
            f"`image_latents` must have shape (batch, {levels + 1} to {steps + 1}, channels, height, width), noisiest "
            f"first and the picture's own latent last, for `inpaint_strength` {strength} of {steps} steps, got "
            f"{tuple(latents.shape)}.{hint}"
        )
    ordered = latents.flip(1).transpose(0, 1)[: levels + 1].float()
    return Trajectory(
        latents=ordered,
        timesteps=schedule.timesteps[:levels],
        num_inference_steps=schedule.num_inference_steps,
        strength=strength,
        prediction_type=schedule.prediction_type,
        schedule_fingerprint=schedule.fingerprint,
        scaling_factor=scaling_factor,
        prompts=None,
    )


def auto_correlation_loss(noise: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Squared correlation of each channel with a randomly shifted copy of itself, over a pyramid of halved sizes.

    Args:
        noise: (batch, channels, height, width).
        generator: Draws the shifts.

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
    """KL divergence between each sample's mean and variance and the standard normal's, summed over the batch.

    Args:
        noise: (batch, ...).

    Source: pix2pix-zero, arXiv:2302.03027, Sec. 3.1.
    """
    dims = tuple(range(1, noise.ndim))
    variance = noise.var(dim=dims)
    return (variance + noise.mean(dim=dims).square() - 1 - torch.log(variance + 1e-7)).sum()


@dataclass(frozen=True)
class Regularization:
    """How predictions are regularised; names are those of [`DiffEditPipeline.invert`].

    num_reg_steps: 0 turns it off.
    generator: Draws the shifts.
    """

    num_reg_steps: int = 0
    lambda_auto_corr: float = 20.0
    lambda_kl: float = 20.0
    num_auto_corr_rolls: int = 5
    generator: torch.Generator | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Regularization:
        """The settings in a call's arguments.

        Raises:
            ValueError: If there is a generator for each picture.
        """
        settings = cls(
            **{field.name: arguments[field.name] for field in fields(cls) if field.name in arguments}
        )
        if settings.num_reg_steps and isinstance(settings.generator, list):
            raise ValueError(
                "`generator` is a list, but the regularisation shifts all pictures alike; pass a single one."
            )
        return settings


def regularised(predict: PredictAt, schedule: Schedule, settings: Regularization) -> PredictAt:
    """Let predictions take some gradient steps towards white noise."""

    def adjusted(latents: torch.Tensor, level: int) -> torch.Tensor:
        prediction = predict(latents, level)

        def slope(loss_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
            with torch.inference_mode(False), torch.enable_grad():
                variable = prediction.detach().clone().requires_grad_(True)
                loss = loss_of(schedule.noise_in(latents, variable, level))
                return torch.autograd.grad(loss, variable)[0]

        for _ in range(settings.num_reg_steps):
            if settings.lambda_auto_corr > 0:
                rolls = settings.num_auto_corr_rolls
                for _ in range(rolls):
                    correlated = slope(lambda noise: auto_correlation_loss(noise, settings.generator))
                    prediction = prediction - settings.lambda_auto_corr / rolls * correlated
            if settings.lambda_kl > 0:
                prediction = prediction - settings.lambda_kl * slope(kl_loss)
        return prediction

    return adjusted if settings.num_reg_steps else predict
