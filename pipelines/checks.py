"""Checks of a call's arguments, made before any work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import Rule, real_number, shortened, whole_number
from semantic_edit.editing.schedule import Schedule
from semantic_edit.pipelines.ranges import plain_numbers

OF_ATTENTION = {"attn", "hidden_states", "encoder_hidden_states", "attention_mask", "temb", "gligen"}
LORA_SCALE: Rule = real_number(-1000, 1000)
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
CHOSEN_BY = {"focus": "the mask", "mask_refine": "the preset", "preserve_background": "the preset"}


def levels_for(schedule: Schedule, name: str, strength: Any) -> int:
    """The number of levels that a strength covers, at least one.

    Args:
        schedule: The schedule.
        name: The argument's name, for the error.
        strength: Fraction of the steps, in (0, 1].

    Raises:
        ValueError: If the strength is outside (0, 1], or covers less than one step.
    """
    levels = schedule.levels(*plain_numbers(**{name: strength}))
    if levels < 1:
        raise ValueError(
            f"`{name}` {strength} of `num_inference_steps` {schedule.num_inference_steps} is less than one "
            "step; raise one of the two."
        )
    return levels


def check_generator(generator: Any, batch_size: int) -> None:
    """Raise unless `generator` is `None`, a generator, or a list with one for each edit.

    Raises:
        ValueError: Saying what to pass.
    """
    generators = generator if isinstance(generator, list) else [generator]
    if generator is not None and not all(isinstance(one, torch.Generator) for one in generators):
        raise ValueError(
            f"`generator` must be a torch.Generator or a list of them, got {generator!r}; make one with "
            "`torch.Generator().manual_seed(seed)`."
        )
    if isinstance(generator, list) and len(generator) != batch_size:
        raise ValueError(
            f"`generator` holds {len(generator)} generators for {batch_size} edits; pass one for each, or a "
            "single one for all."
        )


def read_attention_kwargs(given: Any, argument: str = "cross_attention_kwargs") -> dict[str, Any] | None:
    """Check a call's `cross_attention_kwargs`, and convert the LoRA scale to a plain number.

    Args:
        given: The argument's value.
        argument: What the family calls it.

    Raises:
        ValueError: If they are not a dict, contain names that are reserved, or the scale is not a number.
    """
    if given is None:
        return None
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise ValueError(
            f'`{argument}` must be a dict from names to values, such as {{"scale": 0.5}}, got '
            f"{shortened(given)}."
        )
    why = "It is how strongly LoRA layers act; 1 is as they were trained."
    if taken := OF_ATTENTION & given.keys():
        raise ValueError(
            f"`{argument}` must not hold {', '.join(sorted(taken))}, which attention layers get from the "
            "network, or which text-to-image models do not take; what the prompts say is passed as `prompt` or "
            "`prompt_embeds`."
        )
    name = f"{argument}['scale']"
    return {
        key: read_number(name, value, LORA_SCALE, why) if key == "scale" else value
        for key, value in given.items()
    }


def read_clip_skip(clip_skip: Any, *encoders: Any, last: int = 0) -> int | None:
    """How many layers of the text encoders a call skips.

    Args:
        clip_skip: The argument.
        encoders: The text encoders, each possibly `None`.
        last: How many of their last layers are skipped in any case.

    Raises:
        ValueError: If it is not a whole number, or an encoder has fewer layers.
    """
    if clip_skip is None:
        return None
    # without an encoder, nothing is skipped
    layers = min((one.config.num_hidden_layers - last for one in encoders if one is not None), default=1000)
    why = "It is how many of the text encoder's last layers are skipped."
    return read_number("clip_skip", clip_skip, whole_number(0, layers), why)


def read_sequence_length(given: Any, most: int = 512) -> int:
    """Check `max_sequence_length`.

    Args:
        given: The argument.
        most: The largest that the family allows.

    Raises:
        ValueError: If it is not a whole number from 1 to that.
    """
    why = "It is how many tokens the language model's text encoder reads."
    return read_number("max_sequence_length", given, whole_number(1, most), why)


def check_output_type(output_type: Any, allowed: tuple[str, ...] = OUTPUT_TYPES) -> None:
    """Raise a ValueError unless `output_type` is one of those that are allowed."""
    check_one_of("output_type", output_type, allowed)


def check_one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise a ValueError unless a value is one of the allowed texts."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {shortened(value)}.")


def check_flags(**given: Any) -> None:
    """Raise a ValueError unless all values are booleans: text such as "no" would count as true."""
    for name, value in given.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"`{name}` must be True or False, got {shortened(value)}.")


def check_optional_flags(**given: Any) -> None:
    """Raise a ValueError unless all values are booleans or `None`, which leaves the choice to the pipeline."""
    for name, value in given.items():
        if value is not None and not isinstance(value, (bool, np.bool_)):
            raise ValueError(
                f"`{name}` must be True, False or None to choose by {CHOSEN_BY[name]}, got {shortened(value)}."
            )


def check_callable(name: str, callback: Any) -> None:
    """Raise a TypeError unless a callback is callable or `None`."""
    if callback is not None and not callable(callback):
        raise TypeError(f"`{name}` must be a function, or None, got {shortened(callback)}.")


def check_callbacks(callback_on_step_end: Any, tensor_inputs: Any, allowed: Sequence[str]) -> None:
    """Raise unless the callback and the tensors it asks for are usable.

    Args:
        callback_on_step_end: The function, or `None`.
        tensor_inputs: Names of the tensors that it asks for.
        allowed: Names of the tensors that exist.

    Raises:
        TypeError: If the callback cannot be called.
        ValueError: If it is one of diffusers' own, which expect tensors of another form, or asks for unknown tensors.
    """
    check_callable("callback_on_step_end", callback_on_step_end)
    if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
        raise ValueError(
            f"{type(callback_on_step_end).__name__} is made for pipelines that keep the prompts of both branches in "
            "one tensor, and this one keeps them apart. Pass a function `(pipe, step, timestep, tensors) -> dict` as "
            "`callback_on_step_end`; there `pipe._guidance_scale = 1.0` ends guidance."
        )
    is_list = isinstance(tensor_inputs, (list, tuple))
    unknown = (
        [one for one in tensor_inputs if not isinstance(one, str) or one not in allowed]
        if is_list
        else [tensor_inputs]
    )
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` is a list that may name {', '.join(allowed)}, got "
            f"{', '.join(shortened(one, quoted=not isinstance(one, str) or not is_list) for one in unknown)}."
        )


def check_no_group_offload(**models: torch.nn.Module) -> None:
    """Raise a ValueError if a model is offloaded by groups of layers while gradients are needed."""
    for name, model in models.items():
        registries = (getattr(module, "_diffusers_hook", None) for module in model.modules())
        if any(one is not None and one.get_hook("group_offloading") is not None for one in registries):
            raise ValueError(
                f"`{name}` is group offloaded, which removes weights that the gradients of learning still need. Use "
                "`pipe.enable_model_cpu_offload()` instead."
            )


def common_batch_size(**counts: int) -> int:
    """The number of edits in a call: each argument has either one entry per edit, or a single one shared by all.

    Args:
        counts: Number of entries of each argument, by the argument's name.

    Raises:
        ValueError: If two arguments have different numbers above one.
    """
    batch_size = max(counts.values())
    if any(count not in (1, batch_size) for count in counts.values()):
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        raise ValueError(
            f"The arguments do not match in number: {listed}. Pass one of each for all edits, or one for "
            "each edit."
        )
    return batch_size


def read_guidance(
    arguments: Mapping[str, Any], name: str, none: float, usual: float | None = None
) -> float | None:
    """The guidance of a call, under the name and in the numbers of its family.

    Args:
        arguments: Of the call.
        name: The argument.
        none: At this number and below there is no guidance.
        usual: What `None` means, if the family's usual guidance is none.

    Returns:
        The number, or `None` to leave it to the preset and the model.

    Raises:
        ValueError: If it is not a number, or a negative prompt is given that it would leave without effect.
    """
    given, may_be_left = arguments[name], "encoding" in arguments  # the stages name their guidance
    if given is None and may_be_left and usual is None:
        return None
    why = f"Above {none:g} it guides; 4 to 5 is usual."
    if given is None and may_be_left and usual is not None:
        scale = usual
    else:
        scale = read_number(name, given, real_number(0, 1000), why)
    said = negative_prompts_of(arguments)
    if said and scale <= none:
        what = (
            f"`{name}` {scale:g}" if given is not None else f"this model, whose usual `{name}` is {scale:g}"
        )
        raise ValueError(
            f"`{said[0]}` has no effect with {what}: there is no guidance away from it. Pass a `{name}` above "
            f"{none:g}, or leave out `{said[0]}`."
        )
    return scale


def negative_prompts_of(arguments: Mapping[str, Any]) -> list[str]:
    """The names of those of a call's arguments that are negative prompts and say something."""
    return [
        name
        for name, value in arguments.items()
        if "negative_prompt" in name
        and any(not isinstance(text, str) or text.strip() for text in _all_of(value))
    ]


def _all_of(value: Any) -> Sequence[Any]:
    """What an argument holds, as a list."""
    if value is None:
        return ()
    return value if isinstance(value, (list, tuple)) else (value,)
