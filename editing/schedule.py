"""The noise levels of one edit, derived from a diffusers scheduler without touching it.

A level is an index: level 0 is the clean latent, level `k` is what the model sees at its `k`-th least noisy
timestep. Inversion walks the levels up, decoding walks the same list down, so the two can never disagree
about a pair.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler

from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import whole_number

# Samplers of the variance-preserving process that add no noise of their own. Each shares its training
# schedule (betas, prediction type, spacing, offset) with DDIM, which is all that is taken from it.
DETERMINISTIC_SCHEDULERS = frozenset(
    {
        "DDIMScheduler",
        "DDIMParallelScheduler",
        "DDIMInverseScheduler",
        "PNDMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverMultistepInverseScheduler",
        "DPMSolverSinglestepScheduler",
        "DEISMultistepScheduler",
        "UniPCMultistepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
    }
)
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
SMALLEST_FACTOR = 1e-6


@dataclass(frozen=True)
class Schedule:
    """The levels of a deterministic DDIM walk.

    timesteps: one per level from 1 on, least noisy first; level `k` belongs to `timesteps[k - 1]`.
    alphas_cumprod: one per level from 0 on; level 0 has the scheduler's final alpha.
    prediction_type: What the model predicts: "epsilon", "v_prediction" or "sample".
    """

    timesteps: tuple[int, ...]
    alphas_cumprod: tuple[float, ...]
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"`prediction_type` must be one of {', '.join(PREDICTION_TYPES)}, got "
                f"{self.prediction_type!r}; set it in the scheduler's config to what the model was trained "
                "to predict."
            )
        if len(self.alphas_cumprod) != len(self.timesteps) + 1:
            raise ValueError(
                f"A schedule of {len(self.timesteps)} timesteps needs {len(self.timesteps) + 1} values of "
                f"`alphas_cumprod`, one for the clean level too, got {len(self.alphas_cumprod)}."
            )
        for level in range(1, len(self.timesteps) + 1):
            self._check_reversible(level)

    def _check_reversible(self, level: int) -> None:
        kept, _ = self.step_factors(level)
        if not (math.isfinite(kept) and abs(kept) > SMALLEST_FACTOR):
            raise ValueError(
                f"The DDIM step at timestep {self.timesteps[level - 1]} (alphas_cumprod "
                f"{self.alphas_cumprod[level]:.3g} to {self.alphas_cumprod[level - 1]:.3g}) cannot be "
                f"inverted with prediction_type={self.prediction_type!r}. With "
                "`rescale_betas_zero_snr=True` use a v_prediction "
                'model; with prediction_type="sample" pass `set_alpha_to_one=False`.'
            )

    @property
    def num_inference_steps(self) -> int:
        """How many model evaluations the whole schedule takes in one direction."""
        return len(self.timesteps)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two schedules share only if they agree in every level."""
        # five digits: float32 cumulative products differ in the last place between machines
        alphas = [f"{alpha:.4e}" for alpha in self.alphas_cumprod]
        text = json.dumps([self.timesteps, alphas, self.prediction_type])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def levels(self, strength: float) -> int:
        """Number of levels that `strength`, a fraction in (0, 1], covers: 0.8 of 50 steps is 40."""
        # the tolerance keeps 0.29 of 100 from becoming 28 through the binary fraction
        return min(int(self.num_inference_steps * strength + 1e-6), self.num_inference_steps)

    def timestep(self, level: int) -> int:
        """The model's timestep at a level from 1 on."""
        return self.timesteps[level - 1]

    def step_factors(self, level: int) -> tuple[float, float]:
        """Factors (kept, added) with z_{level-1} = kept * z_level + added * model_output.

        Whatever the model predicts, a DDIM step is linear in the latent and the prediction. Dividing by
        `kept` is its exact inverse, which for epsilon and sample prediction equals the usual DDIM inversion
        and for v_prediction has a several times smaller round-trip error than rotating forward.

        Source: DDIM, arXiv:2010.02502, Eq. 12 with sigma = 0.
        """
        alpha, alpha_below = self.alphas_cumprod[level], self.alphas_cumprod[level - 1]
        signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
        signal_below, noise_below = math.sqrt(alpha_below), math.sqrt(1 - alpha_below)
        if self.prediction_type == "epsilon":
            kept = signal_below / signal if signal else math.inf
            return kept, noise_below - kept * noise
        if self.prediction_type == "sample":
            kept = noise_below / noise if noise else math.inf
            return kept, signal_below - kept * signal
        return signal_below * signal + noise_below * noise, noise_below * signal - signal_below * noise

    def is_before(self, level: int, fraction: float) -> bool:
        """Whether the step that leaves `level` is among the first of a fraction of all steps, from the noisy end."""
        # the product of a fraction that stands for a whole number of steps may miss it by rounding
        return self.num_inference_steps - level < fraction * self.num_inference_steps - 1e-9

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, level: int) -> torch.Tensor:
        """The forward process: `latents`, clean, with `noise` of the same shape at a level."""
        alpha = self.alphas_cumprod[level]
        return math.sqrt(alpha) * latents + math.sqrt(1 - alpha) * noise


def schedule_from_scheduler(scheduler: Any, num_inference_steps: int) -> Schedule:
    """Derive the DDIM levels that a scheduler's config describes; the scheduler itself is only read.

    A DDIM scheduler is taken as it is. Of the other deterministic samplers of Stable Diffusion (PNDM, Euler,
    DPM-Solver, ...) the training schedule, prediction type, spacing and offset are taken, exactly what
    `DDIMScheduler.from_config(scheduler.config, clip_sample=False)` would use; their solver is not.

    Args:
        scheduler: A diffusers scheduler.
        num_inference_steps: Steps of the whole schedule, from 1 to the number that the model was trained on.

    Raises:
        ValueError: If the scheduler is stochastic, of another process, or clips or thresholds its
            predictions; or if the number of steps is out of range.
    """
    name = type(scheduler).__name__
    config = getattr(scheduler, "config", None)
    if not isinstance(config, Mapping) or "num_train_timesteps" not in config:
        raise ValueError(
            f"`scheduler` must be one of diffusers' schedulers, got a {name}; a DDIMScheduler always does."
        )
    _check_deterministic(scheduler, name, config)
    is_ddim = any(cls.__name__.startswith("DDIM") for cls in type(scheduler).__mro__)
    if config.get("thresholding", False) or (is_ddim and config.get("clip_sample", True)):
        option = "thresholding" if config.get("thresholding", False) else "clip_sample"
        raise ValueError(
            f"{name} has {option}=True, which makes a DDIM step impossible to invert. Pass "
            "`DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)` as "
            "`scheduler`."
        )
    in_config = "It is in the scheduler's config, and 1000 for Stable Diffusion."
    trained_on = read_number(
        "num_train_timesteps", config["num_train_timesteps"], whole_number(1, 1_000_000), in_config
    )
    why = f"The model was trained on {trained_on} timesteps."
    steps = read_number("num_inference_steps", num_inference_steps, whole_number(1, trained_on), why)
    return _ddim_levels(config, is_ddim, steps)


def _check_deterministic(scheduler: Any, name: str, config: Mapping[str, Any]) -> None:
    lineage = {cls.__name__ for cls in type(scheduler).__mro__}
    solver = str(config.get("algorithm_type", ""))
    if (
        lineage & DETERMINISTIC_SCHEDULERS
        and not solver.startswith("sde")
        and not config.get("use_flow_sigmas")
    ):
        return
    kind = name if not solver.startswith("sde") else f"{name} with algorithm_type={solver!r}"
    raise ValueError(
        f"{kind} cannot be inverted: an edit needs a deterministic scheduler of the variance-preserving "
        "process, since stochastic samplers draw new noise at each step and flow matching follows another "
        "path. For a Stable Diffusion model pass `DDIMScheduler.from_config(pipe.scheduler.config, "
        "clip_sample=False)` as `scheduler`."
    )


def _ddim_levels(config: Mapping[str, Any], exact: bool, num_inference_steps: int) -> Schedule:
    # from_config drops what its own default once set, even if `register_to_config` has changed it since
    names = (
        inspect.signature(DDIMScheduler.__init__).parameters if exact else ("prediction_type", "steps_offset")
    )
    taken = {name: config[name] for name in names if name in config}
    taken = {name: value for name, value in taken.items() if name not in ("clip_sample", "thresholding")}
    # a scheduler of this call's own: set_timesteps writes to it, and the user's may be shared between threads
    try:
        ddim = DDIMScheduler.from_config(config, **taken, clip_sample=False, thresholding=False)
        ddim.set_timesteps(num_inference_steps)
    except (NotImplementedError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ValueError(
            f"The `scheduler`'s config gives no noise schedule ({error}). Load the scheduler again from the model's "
            "folder."
        ) from error
    timesteps = tuple(int(timestep) for timestep in reversed(ddim.timesteps.tolist()))
    trained_on = len(ddim.alphas_cumprod)
    if timesteps[-1] >= trained_on or len(set(timesteps)) != num_inference_steps:
        raise ValueError(
            f"timestep_spacing={ddim.config.timestep_spacing!r} with steps_offset={ddim.config.steps_offset} "
            f"gives no {num_inference_steps} different timesteps below {trained_on} (the last is "
            f"{timesteps[-1]}); lower `num_inference_steps` or `steps_offset`."
        )
    alphas = [float(ddim.alphas_cumprod[timestep]) for timestep in timesteps]
    return Schedule(timesteps, (float(ddim.final_alpha_cumprod), *alphas), ddim.config.prediction_type)
