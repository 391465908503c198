"""diffusers' two kinds of callbacks, as the functions that the numerics call after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from semantic_edit.disk.reading import shortened


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

    It runs in a block of `running_call`; a `_guidance_scale` that is set there comes back as "guidance_scale". What it
    returns raises a ValueError if the callback gave something else than tensors of the same shapes.
    """
    older = every_steps(callback, callback_steps)

    def on_step(step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        if callback_on_step_end is not None:
            before = pipe.guidance_scale
            given = {name: tensors[name] for name in tensor_inputs}
            changed = callback_on_step_end(pipe, step, timestep, given) or {}
            _check_returned(changed, tensors)
            if pipe.guidance_scale != before:
                _check_guides(pipe.guidance_scale, tensors)
                changed = {**changed, "guidance_scale": pipe.guidance_scale}
        if older is not None:
            older(step, timestep, changed.get("latents", tensors["latents"]))
        return changed

    return on_step


def _check_returned(changed: Any, tensors: dict[str, Any]) -> None:
    if not isinstance(changed, dict):
        raise ValueError(
            f"`callback_on_step_end` must return None or a dict from names to tensors, got {shortened(changed)}."
        )
    for name, was in tensors.items():
        if name in changed and not _can_replace(name, changed[name], was):
            got = changed[name]
            kind = f"{got.dtype} {tuple(got.shape)}" if isinstance(got, torch.Tensor) else shortened(got)
            advice = "Leave out of the dict what is to stay as it is."
            if name == "prompt_embeds":
                advice = (
                    "It has no unconditional rows to cut off, which are `negative_prompt_embeds`: leave both out, and "
                    "set `pipe._guidance_scale = 1.0` to end guidance."
                )
            raise ValueError(
                f"`callback_on_step_end` returned {kind} for `{name}`, where floats of shape "
                f"{None if was is None else tuple(was.shape)} are needed. {advice}"
            )


def _can_replace(name: str, value: Any, was: torch.Tensor | None) -> bool:
    if value is None or was is None:
        return name == "negative_prompt_embeds"  # there is no guidance, from here on or until now
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.ndim != was.ndim:
        return False
    fixed = slice(None) if name == "latents" else slice(0, None, 2)  # prompts may have other lengths
    return value.shape[fixed] == was.shape[fixed]


def _check_guides(guidance_scale: float, tensors: dict[str, Any]) -> None:
    """Refuse to begin guidance in a call that has nothing to guide away from."""
    if guidance_scale > 1 and tensors["negative_prompt_embeds"] is None:
        raise ValueError(
            f"`_guidance_scale` cannot be set to {guidance_scale} in a call that was begun without guidance, whose "
            "negative prompt was not encoded. Call with a `guidance_scale` above 1, and lower it in the callback."
        )
