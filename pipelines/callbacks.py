"""diffusers' two kinds of callbacks, as the functions that the numerics call after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def every_steps(
    callback: Callable[[int, int, torch.Tensor], None] | None, callback_steps: int
) -> Callable[[int, int, torch.Tensor], None] | None:
    """diffusers' older callback, `(step, timestep, latents)`, at every `callback_steps`-th step."""
    if callback is None:
        return None

    def on_step(step: int, timestep: int, latents: torch.Tensor) -> None:
        if step % callback_steps == 0:
            callback(step, timestep, latents)

    return on_step


def step_callback(
    pipe: Any,
    callback_on_step_end: Callable[..., dict[str, Any] | None] | None,
    tensor_inputs: Sequence[str],
    callback: Callable[[int, int, torch.Tensor], None] | None,
    callback_steps: int,
) -> Callable[[int, int, dict[str, Any]], dict[str, Any]]:
    """Both kinds of callbacks as `on_step` of `decode_latents`: given the tensors, returns the changed ones."""
    older = every_steps(callback, callback_steps)

    def on_step(step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        if callback_on_step_end is not None:
            given = {name: tensors[name] for name in tensor_inputs}
            changed = callback_on_step_end(pipe, step, timestep, given) or {}
        if older is not None:
            older(step, timestep, changed.get("latents", tensors["latents"]))
        return changed

    return on_step
