"""All numeric arguments of the pipelines, with their ranges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import Rule, or_none, real_number, whole_number

FRACTION: Rule = real_number(0, 1)
PART: Rule = real_number(0, 1, above=True)
LONGEST_SIDE = 16384
POSITIONS = (
    or_none(whole_number(1, LONGEST_SIDE)),
    "It counts the positions of an attention map along a side.",
)
KEPT = (
    FRACTION,
    "It is the fraction of the steps, from the noisy end, for which the source's attention is kept.",
)
NUMBERS: dict[str, tuple[Rule, str]] = {  # by argument, with a further sentence for its error
    "guidance_scale": (real_number(0, 1000), "Above 1 it guides; 5 to 7.5 is usual."),
    "true_cfg_scale": (
        or_none(real_number(0, 1000)),
        "Above 1 it guides away from the negative prompt; 4 is usual.",
    ),
    "guidance_rescale": (FRACTION, "0 is off."),
    "guidance_stop": (
        or_none(FRACTION),
        "It is the fraction of the steps, from the noisy end, that are guided; 1 guides all.",
    ),
    "inpaint_strength": (PART, "It is the part of the steps to go through."),
    "strength": (PART, "It is the part of the steps to go through."),
    "num_images_per_prompt": (whole_number(1, 1000), "It is how many copies to return."),
    "callback_steps": (whole_number(1, 1_000_000), "The callback is called every so many steps."),
    "num_maps_per_mask": (whole_number(1, 1000), "It is how many noises are averaged; 10 is usual."),
    "mask_encode_strength": (PART, "It is the noise to add; 0.3 to 0.6 works."),
    "mask_threshold": (
        real_number(0, 1, above=True, below=True),
        "It cuts the mean noise difference after rescaling to [0, 1]; raise it for a smaller mask.",
    ),
    "mask_thresholding_ratio": (
        or_none(real_number(0, 1e6, above=True)),
        "It clamps the noise difference at that multiple of its mean; None adapts to the map.",
    ),
    "mask_batch_size": (whole_number(1, 1_000_000), "It is how many samples the model takes at once."),
    "mask_grow": (
        or_none(whole_number(-10_000, 10_000)),
        "It widens the mask, in pixels; negative numbers shrink it.",
    ),
    "mask_feather": (or_none(real_number(0, 1000)), "It blurs the mask's edge, in pixels; 0 is none."),
    "height": (whole_number(1, LONGEST_SIDE), "It is the height in pixels that the model works at."),
    "width": (whole_number(1, LONGEST_SIDE), "It is the width in pixels that the model works at."),
    "num_reg_steps": (whole_number(0, 1000), "It is how often each prediction is regularised; 0 is off."),
    "lambda_auto_corr": (real_number(0, 1e6), "It weighs the regularisation; 20 is usual."),
    "lambda_kl": (real_number(0, 1e6), "It weighs the regularisation; 20 is usual."),
    "num_auto_corr_rolls": (whole_number(1, 1000), "It is how many shifts a step of regularisation takes."),
    "attention_side": POSITIONS,
    "self_attention_side": POSITIONS,
    "tau_v": KEPT,
    "tau_c": KEPT,
    "tau_s": KEPT,
    "tau_u": KEPT,
    "word_tau_c": KEPT,
    "reweight": (real_number(-1000, 1000), "It multiplies a word's attention; 1 leaves it as it is."),
    "local_blend_threshold": (
        real_number(0, 1, above=True, below=True),
        "It is the part of a region's highest attention that belongs to the region.",
    ),
}


PER_WORD = ("word_tau_c", "reweight")


def plain_numbers(**given: Any) -> list[Any]:
    """Check numeric arguments of a call, and convert them to ints and floats, in the given order.

    Raises:
        ValueError: Naming the first that is not a number, or out of its range.
    """
    return [read_number(name, value, *NUMBERS[name]) for name, value in given.items()]


def read_numbers(arguments: Mapping[str, Any], optional: Collection[str] = ()) -> dict[str, Any]:
    """A call's arguments, with the numeric ones checked and converted to ints and floats.

    Args:
        arguments: Of the call, by name, of all kinds.
        optional: Names of those that may be `None`.

    Raises:
        ValueError: Naming the first that is not a number, or out of its range.
    """
    return {
        name: read_number(name, value, *NUMBERS[name])
        if name in NUMBERS and name not in PER_WORD and not (value is None and name in optional)
        else value
        for name, value in arguments.items()
    }
