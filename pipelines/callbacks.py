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
            _check_returned(changed, tensors)
            if pipe.guidance_scale != before:
                _check_guides(pipe.guidance_scale, tensors)
                changed["guidance_scale"] = pipe.guidance_scale
        if older is not None:
            older(step, timestep, changed.get("latents", tensors["latents"]))
        return changed

    return on_step


def _check_returned(changed: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Refuse tensors that the next step could not use in the place of those that a callback was given."""
    latents = tensors["latents"]
    for name in tensors.keys() & changed.keys():
        value = changed[name]
        if value is None and (name == "negative_prompt_embeds" or tensors[name] is None):
            continue
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        if name == "latents":
            if shape == latents.shape:
                continue
            raise ValueError(
                f"`callback_on_step_end` must return `latents` of the shape that it was given, {tuple(latents.shape)}, "
                f"got {shape or type(value).__name__}."
            )
        if shape is None or len(shape) != 3 or shape[0] != len(latents):
            raise ValueError(
                f"`callback_on_step_end` must return as many rows of `{name}` as it was given, {len(latents)}, got "
                f"{shape or type(value).__name__}. Here `prompt_embeds` has no unconditional rows to cut off: those "
                "are `negative_prompt_embeds`. To end guidance set `pipe._guidance_scale = 1.0` and leave both as they "
                "are."
            )


def _check_guides(guidance_scale: float, tensors: Mapping[str, Any]) -> None:
    """Refuse to begin guidance in a call that has nothing to guide away from."""
    if guidance_scale > 1 and tensors["negative_prompt_embeds"] is None:
        raise ValueError(
            f"`_guidance_scale` cannot be set to {guidance_scale} in a call that was begun without guidance, whose "
            "negative prompt was not encoded. Call with a `guidance_scale` above 1, and lower it in the callback."
        )
