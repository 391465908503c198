"""The noise levels of one edit: how much of the picture and of the noise a latent contains at each of them.

A level is an index: level 0 is the clean latent, level `k` is what the model sees at its `k`-th least noisy timestep.
Inversion walks up the levels and decoding walks down the same list, so the two can never disagree about a pair.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow")
SMALLEST_FACTOR = 1e-6
STABLE_DIFFUSION_BETAS = 0.00085, 0.012, 1000
"""Stable Diffusion's noise: the first and the last square root of beta squared, and how many there are."""


@dataclass(frozen=True)
class Schedule:
    """The levels of a deterministic walk: x_k = signal_k * x_0 + noise_k * epsilon.

    timesteps: The scheduler's timestep of each level from 1 on, least noisy first; level `k` belongs to
        `timesteps[k - 1]`.
    signal, noise: One of each per level, from 0 on.
    prediction_type: What the model predicts: "epsilon", "v_prediction", "sample", or "flow", the velocity epsilon - x_0
        of a rectified flow, whose signal and noise add up to 1.
    """

    timesteps: tuple[float, ...]
    signal: tuple[float, ...]
    noise: tuple[float, ...]
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"`prediction_type` must be one of {', '.join(PREDICTION_TYPES)}, got "
                f"{self.prediction_type!r}; set it in the scheduler's config to what the model was trained "
                "to predict."
            )
        if not len(self.signal) == len(self.noise) == len(self.timesteps) + 1:
            raise ValueError(
                f"A schedule of {len(self.timesteps)} timesteps needs {len(self.timesteps) + 1} values of "
                f"`signal` and of `noise`, one for the clean level too, got {len(self.signal)} and {len(self.noise)}."
            )
        for level in range(1, len(self.timesteps) + 1):
            self._check_reversible(level)

    @classmethod
    def of_alphas(
        cls, timesteps: Sequence[int], alphas_cumprod: Sequence[float], prediction_type: str = "epsilon"
    ) -> Schedule:
        """The schedule of a variance-preserving process, such as DDIM's.

        Args:
            timesteps: As for the class.
            alphas_cumprod: The squared signal of each level, from 0 on; level 0 has the scheduler's final alpha.
            prediction_type: As for the class.
        """
        signal = tuple(math.sqrt(alpha) for alpha in alphas_cumprod)
        noise = tuple(math.sqrt(1 - alpha) for alpha in alphas_cumprod)
        return cls(tuple(timesteps), signal, noise, prediction_type)

    @classmethod
    def of_sigmas(cls, timesteps: Sequence[float], sigmas: Sequence[float]) -> Schedule:
        """The schedule of a rectified flow, arXiv:2209.03003: x_k = (1 - sigma_k) * x_0 + sigma_k * epsilon.

        Args:
            timesteps: As for the class.
            sigmas: The noise of each level, from 0 on.
        """
        return cls(tuple(timesteps), tuple(1 - sigma for sigma in sigmas), tuple(sigmas), "flow")

    def _check_reversible(self, level: int) -> None:
        kept, _ = self.step_factors(level)
        if not (math.isfinite(kept) and abs(kept) > SMALLEST_FACTOR):
            raise ValueError(
                f"The DDIM step at timestep {self.timesteps[level - 1]} (alphas_cumprod "
                f"{self.signal[level] ** 2:.3g} to {self.signal[level - 1] ** 2:.3g}) cannot be "
                f"inverted with prediction_type={self.prediction_type!r}. With "
                "`rescale_betas_zero_snr=True` use a v_prediction "
                'model; with prediction_type="sample" pass `set_alpha_to_one=False`.'
            )

    @property
    def num_inference_steps(self) -> int:
        """Number of model evaluations that the whole schedule takes in one direction."""
        return len(self.timesteps)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two schedules share only if they agree in every level."""
        # five digits, because float32 cumulative products differ in the last place between machines
        alphas = [f"{signal**2:.4e}" for signal in self.signal]
        timesteps = [float(f"{one:.4e}") for one in self.timesteps] if self.is_flow else self.timesteps
        text = json.dumps([timesteps, alphas, self.prediction_type])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def is_flow(self) -> bool:
        """Whether these are the levels of a rectified flow."""
        return self.prediction_type == "flow"

    def levels(self, strength: float) -> int:
        """Number of levels that `strength`, a fraction in (0, 1], covers: 0.8 of 50 steps is 40.

        A rectified flow's steps are not spread over the noise as Stable Diffusion's are, and each model and size shifts
        them differently. There, a strength means the level whose share of noise is nearest to what Stable Diffusion has
        at that fraction of its timesteps: 0.5 is sigma 0.62, 0.8 is sigma 0.84. At 1, it is all levels.
        """
        if self.is_flow and strength < 1:
            wanted = stable_diffusion_sigma(strength)
            return min(range(len(self.noise)), key=lambda level: abs(self.noise[level] - wanted))
        # the tolerance keeps 0.29 of 100 from becoming 28, since 0.29 is not exact in binary
        return min(int(self.num_inference_steps * strength + 1e-6), self.num_inference_steps)

    def timestep(self, level: int) -> float:
        """The scheduler's timestep at a level from 1 on."""
        return self.timesteps[level - 1]

    def step_factors(self, level: int) -> tuple[float, float]:
        """Factors (kept, added) with x_{level-1} = kept * x_level + added * model_output.

        Whatever the model predicts, a deterministic step is linear in the latent and the prediction. Dividing by `kept`
        is its exact inverse. For epsilon and sample prediction this equals the usual DDIM inversion; for v_prediction
        its round-trip error is several times smaller than that of rotating forward.

        Source: DDIM, arXiv:2010.02502, Eq. 12 with sigma = 0.
        """
        signal, noise = self.signal[level], self.noise[level]
        signal_below, noise_below = self.signal[level - 1], self.noise[level - 1]
        if self.is_flow:
            return 1.0, noise_below - noise
        if self.prediction_type == "epsilon":
            kept = signal_below / signal if signal else math.inf
            return kept, noise_below - kept * noise
        if self.prediction_type == "sample":
            kept = noise_below / noise if noise else math.inf
            return kept, signal_below - kept * signal
        return signal_below * signal + noise_below * noise, noise_below * signal - signal_below * noise

    def noise_in(self, latents: torch.Tensor, prediction: torch.Tensor, level: int) -> torch.Tensor:
        """The noise that a prediction implies at a level; tensors of one shape."""
        signal, noise = self.signal[level], self.noise[level]
        if self.prediction_type == "epsilon":
            return prediction
        if self.prediction_type == "sample":
            return (latents - signal * prediction) / noise
        if self.is_flow:
            return latents + signal * prediction
        return signal * prediction + noise * latents

    def is_before(self, level: int, fraction: float) -> bool:
        """Whether the step that leaves `level` is in the first `fraction` of all steps, from the noisy end."""
        # if the fraction stands for a whole number of steps, their product may miss it by rounding
        return self.num_inference_steps - level < fraction * self.num_inference_steps - 1e-9

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, level: int) -> torch.Tensor:
        """The forward process: clean latents with noise of the same shape, at a level."""
        return self.signal[level] * latents + self.noise[level] * noise


def stable_diffusion_sigma(fraction: float) -> float:
    """The share of noise, noise / (signal + noise), at a fraction of Stable Diffusion's timesteps, in (0, 1)."""
    first, last, count = STABLE_DIFFUSION_BETAS
    roots = torch.linspace(first**0.5, last**0.5, count, dtype=torch.float64)
    log_alphas = (1 - roots**2).log().cumsum(0)
    place = fraction * count
    below = min(int(place), count - 1)
    ends = [0.0 if index == 0 else float(log_alphas[index - 1]) for index in (below, below + 1)]
    alpha = math.exp(ends[0] + (place - below) * (ends[1] - ends[0]))
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    return noise / (signal + noise)
