"""diffusers' two kinds of callbacks, as the functions that the numerics call after each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """Both kinds of callbacks as `on_step` of `decode_latents`: given the tensors, returns the changed ones.

    It runs in a block of `running_call`; a `_guidance_scale` that is set there comes back as "guidance_scale".
    """
    older = every_steps(callback, callback_steps)

    def on_step(step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        if callback_on_step_end is not None:
            before = pipe.guidance_scale
            given = {name: tensors[name] for name in tensor_inputs}
            changed = dict(callback_on_step_end(pipe, step, timestep, given) or {})
            _check_rows(changed, tensors)
            if pipe.guidance_scale != before:
                changed["guidance_scale"] = pipe.guidance_scale
        if older is not None:
            older(step, timestep, changed.get("latents", tensors["latents"]))
        return changed

    return on_step


def _check_rows(changed: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Refuse tensors that are not of as many edits as those that a callback was given."""
    rows = len(tensors["latents"])
    for name in tensors.keys() & changed.keys():
        value = changed[name]
        if value is None and (name == "negative_prompt_embeds" or tensors[name] is None):
            continue
        if not isinstance(value, torch.Tensor) or value.ndim == 0 or len(value) != rows:
            got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(
                f"`callback_on_step_end` must return as many rows of `{name}` as it was given, {rows}, got {got}. "
                "Here `prompt_embeds` has no unconditional rows to cut off: those are `negative_prompt_embeds`. To "
                "end guidance set `pipe._guidance_scale = 1.0` and leave both as they are."
            )
