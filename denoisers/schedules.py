"""Derive the noise levels of an edit from a diffusers scheduler, without modifying it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers import DDIMScheduler

from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import whole_number
from semantic_edit.editing.schedule import Schedule

# Samplers of the variance-preserving process that add no noise. Only the training schedule (betas, prediction type,
# spacing, offset), which they share with DDIM, is taken from them.
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


def schedule_from_scheduler(scheduler: Any, num_inference_steps: int) -> Schedule:
    """Derive the DDIM levels that a scheduler's config describes; the scheduler itself is only read.

    A DDIM scheduler is used as it is. From Stable Diffusion's other deterministic samplers (PNDM, Euler, DPM-Solver,
    ...) only the training schedule, prediction type, spacing and offset are used, exactly those that
    `DDIMScheduler.from_config(scheduler.config, clip_sample=False)` would use, but not their solver.

    Args:
        scheduler: A diffusers scheduler.
        num_inference_steps: Number of steps of the whole schedule, from 1 to the number that the model was trained on.

    Raises:
        ValueError: If the scheduler is stochastic, of another process, or clips or thresholds its predictions; or if
            the number of steps is out of range.
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
    # from_config drops values that a default once set, even if `register_to_config` has changed them since
    names = (
        inspect.signature(DDIMScheduler.__init__).parameters if exact else ("prediction_type", "steps_offset")
    )
    taken = {name: config[name] for name in names if name in config}
    taken = {name: value for name, value in taken.items() if name not in ("clip_sample", "thresholding")}
    # a separate scheduler for this call: set_timesteps writes to it, and the user's may be shared between threads
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
    return Schedule.of_alphas(
        timesteps, (float(ddim.final_alpha_cumprod), *alphas), ddim.config.prediction_type
    )
