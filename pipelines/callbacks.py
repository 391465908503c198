"""diffusers' two kinds of callbacks, as functions that the numerics call after each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from semantic_edit.disk.reading import shortened
from semantic_edit.editing.inversion import StepHooks
from semantic_edit.pipelines.checks import check_callable, check_callbacks
from semantic_edit.pipelines.ranges import plain_numbers


def every_steps(
    callback: Callable[[int, float, torch.Tensor], None] | None, callback_steps: int
) -> Callable[[int, float, torch.Tensor], None] | None:
    """diffusers' older callback, `(step, timestep, latents)`, called at every `callback_steps`-th step."""
    if callback is None:
        return None

    def on_step(step: int, timestep: float, latents: torch.Tensor) -> None:
        if step % callback_steps == 0:
            callback(step, timestep, latents)

    return on_step


CUT_OFF = (
    " Here `prompt_embeds` has no unconditional rows to cut off: those are `negative_prompt_embeds`. To end guidance "
    "set `pipe._guidance_scale = 1.0` and leave both as they are."
)


def read_step_hooks(pipe: Any, arguments: Mapping[str, Any]) -> StepHooks:
    """Check a call's callbacks, and make them and its interruption into hooks around the steps of its decoding.

    Args:
        pipe: The pipeline.
        arguments: Of the call, by name.

    Raises:
        ValueError, TypeError: If a callback cannot be called, or asks for tensors that do not exist.
    """
    on_step_end = arguments["callback_on_step_end"]
    inputs = arguments["callback_on_step_end_tensor_inputs"]
    older, steps = arguments.get("callback"), arguments.get("callback_steps", 1)
    check_callbacks(on_step_end, inputs, pipe._callback_tensor_inputs)
    check_callable("callback", older)
    (steps,) = plain_numbers(callback_steps=steps)
    return StepHooks(step_callback(pipe, on_step_end, inputs, older, steps), lambda: pipe.interrupt)


def step_callback(
    pipe: Any,
    callback_on_step_end: Callable[..., dict[str, Any] | None] | None,
    tensor_inputs: Sequence[str],
    callback: Callable[[int, float, torch.Tensor], None] | None,
    callback_steps: int,
) -> Callable[[int, float, dict[str, Any]], dict[str, Any]]:
    """Both kinds of callbacks as the `on_step` of `decode_latents`, which receives tensors and returns the changed
    ones.

    It must run within a block of `running_call`; a `_guidance_scale` that is set there is returned as "guidance_scale".

    Returns:
        A function of the step, the timestep and the tensors. It raises a ValueError if the callback returns anything
        but tensors of the same shapes.
    """
    older = every_steps(callback, callback_steps)

    def on_step(step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        if callback_on_step_end is not None:
            before = pipe.guidance_scale
            given = {name: tensors[name] for name in tensor_inputs}
            changed = callback_on_step_end(pipe, step, timestep, given) or {}
            _check_returned(changed, tensors)
            changed = {name: _in_the_type_of(value, tensors.get(name)) for name, value in changed.items()}
            if pipe.guidance_scale != before:
                _check_guides(pipe.guidance_scale, tensors)
                changed["guidance_scale"] = pipe.guidance_scale
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
            kind = shortened(got)
            if isinstance(got, torch.Tensor):
                kind = f"{got.dtype} {tuple(got.shape)}"
                if was is not None and (got.layout, got.device) != (was.layout, was.device):
                    kind += f" ({got.layout}, on {got.device})"
            raise ValueError(
                f"`callback_on_step_end` returned {kind} for `{name}`, where floats of shape {tuple(was.shape)} are "
                f"needed. Leave out of the dict what should not change.{CUT_OFF if name == 'prompt_embeds' else ''}"
            )
    _check_lengths({**tensors, **changed})


def _check_lengths(tensors: Mapping[str, Any]) -> None:
    """Raise a ValueError if prompts that a network takes together have different numbers of tokens."""
    lengths = {
        name: one.shape[1]
        for name, one in tensors.items()
        if name.endswith(("prompt_embeds", "prompt_embeds_mask")) and "pooled" not in name and one is not None
    }
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise ValueError(
            f"`callback_on_step_end` returned prompts that do not match in their numbers of tokens: {listed}. Return "
            "all of them with equally many, and None for negative ones to end guidance."
        )


def _can_replace(name: str, value: Any, was: torch.Tensor | None) -> bool:
    if value is None:
        return name.startswith("negative_")  # there is no guidance from here on
    if was is None:  # nor was there until now
        return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.is_nested:
        return False
    if (value.layout, value.device, value.ndim) != (was.layout, was.device, was.ndim):
        return False
    # prompts, (batch, tokens, width), may have other lengths
    fixed = slice(0, None, 2) if was.ndim == 3 else slice(None)
    return value.shape[fixed] == was.shape[fixed]


def _in_the_type_of(value: Any, was: torch.Tensor | None) -> Any:
    """What a callback returned, in the dtype in which the steps compute."""
    return value if was is None or value is None else value.to(was.dtype)


def _check_guides(guidance_scale: float, tensors: Mapping[str, Any]) -> None:
    """Raise if a callback turns guidance on in a call that has no negative prompt to steer away from."""
    if guidance_scale > 1 and tensors["negative_prompt_embeds"] is None:
        raise ValueError(
            f"`_guidance_scale` cannot be set to {guidance_scale} in a call that began without guidance, because its "
            "negative prompt was not encoded. Call with a `guidance_scale` above 1, and lower it in the callback."
        )
