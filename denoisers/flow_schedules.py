"""Derive the noise levels of an edit from a rectified flow's scheduler, without modifying it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import whole_number
from semantic_edit.editing.schedule import Schedule

MOST_STEPS = 1000


def schedule_of_flow(scheduler: Any, num_inference_steps: int, **timing: Any) -> Schedule:
    """The levels that a flow-matching Euler scheduler walks through; the scheduler itself is only read.

    Args:
        scheduler: A `FlowMatchEulerDiscreteScheduler`.
        num_inference_steps: Number of steps of the whole schedule.
        timing: What the family's own pipeline passes to `set_timesteps` besides: `sigmas`, `mu`.

    Raises:
        ValueError: If the scheduler is of another process or stochastic, or the number of steps is out of range.
    """
    check_flow_scheduler(scheduler)
    steps = _read_steps(num_inference_steps)
    own = copy.deepcopy(scheduler)  # `set_timesteps` writes to it, and the shift may have been set on it
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            own.set_timesteps(steps, **timing)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ValueError(
            f"The `scheduler`'s config gives no noise levels ({error}). Load the scheduler again from the model's "
            "folder."
        ) from error
    timesteps, sigmas = own.timesteps.tolist()[::-1], own.sigmas.tolist()[::-1]
    if len(timesteps) != steps or not all(low < high for low, high in itertools.pairwise(sigmas)):
        raise ValueError(
            f"The `scheduler` gives no {steps} different noise levels; change `num_inference_steps`, or load the "
            "scheduler again from the model's folder."
        )
    return Schedule.of_sigmas(timesteps, sigmas)


def even_sigmas(num_inference_steps: int) -> np.ndarray:
    """Noise levels from 1 down, evenly spaced and not yet shifted, as FLUX's pipelines pass them to `set_timesteps`.

    Raises:
        ValueError: If the number of steps is out of range.
    """
    steps = _read_steps(num_inference_steps)
    return np.linspace(1.0, 1 / steps, steps)


def _read_steps(given: Any) -> int:
    why = "It is how many steps lead from pure noise to the picture."
    return read_number("num_inference_steps", given, whole_number(1, MOST_STEPS), why)


def check_flow_scheduler(scheduler: Any) -> None:
    """Raise unless a scheduler walks a rectified flow by Euler steps.

    Raises:
        ValueError: Saying what to use.
    """
    name, config = type(scheduler).__name__, getattr(scheduler, "config", None)
    lineage = {cls.__name__ for cls in type(scheduler).__mro__}
    instead = "Load the scheduler of the model's folder."
    if "FlowMatchEulerDiscreteScheduler" not in lineage or not isinstance(config, Mapping):
        raise ValueError(
            f"`scheduler` must be a FlowMatchEulerDiscreteScheduler, got a {name}: this model is a rectified flow, "
            f"whose levels an edit walks by Euler steps in both directions. {instead}"
        )
    for option, why in (
        ("stochastic_sampling", "draws new noise at each step"),
        ("invert_sigmas", "counts noise backwards"),
    ):
        if config.get(option, False):
            raise ValueError(
                f"The `scheduler` has {option}=True, which {why}, so it cannot be inverted. {instead}"
            )


def shift_of_size(config: Mapping[str, Any], tokens: int) -> float:
    """The shift of the noise levels (diffusers' `mu`) for a number of picture tokens, as the pipelines compute it.

    Args:
        config: The scheduler's.
        tokens: Of the picture, after patches were made of its latents.

    Raises:
        ValueError: If the config gives none.
    """
    fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    try:
        slope = (high - low) / (most - fewest)
        return tokens * slope + (low - slope * fewest)
    except (TypeError, ArithmeticError) as error:
        raise ValueError(
            f"The `scheduler`'s config gives no shift of the noise levels ({error}). Load the scheduler again from the "
            "model's folder."
        ) from error


def shift_of_steps(steps: int, tokens: int) -> float:
    """The same for FLUX.2: fitted for 10 and for 200 steps, and up to 4300 tokens a line between the two."""
    fitted_10, fitted_200 = 8.73809524e-05 * tokens + 1.89833333, 0.00016927 * tokens + 0.45666666
    return fitted_200 if tokens > 4300 else fitted_10 + (fitted_200 - fitted_10) * (steps - 10) / 190
