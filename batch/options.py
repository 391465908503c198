"""What a row may set: the arguments of the pipelines, by their own names, each checked before any work."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from semantic_edit.datasets.items import RowError
from semantic_edit.disk.models import PIPELINE_METHODS
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import Rule, is_utf8, shortened, whole_number
from semantic_edit.pipelines import PRESETS
from semantic_edit.pipelines.ranges import NUMBERS, PER_WORD, read_numbers

DIFFEDIT = "diffedit"
RESTYLE = "restyle"
METHODS = {DIFFEDIT: "diffedit", RESTYLE: "stylediffusion"}
"""The methods, and what `load` calls their pipelines."""

LEARNED = (
    "num_inference_steps",
    "guidance_scale",
    "negative_prompt",
    "variant",
    "attention_side",
    "height",
    "width",
)
"""What a picture is learned with, once for all of its rows."""

BY_WORD = (*PER_WORD, "local_blend")
"""Options whose words must be in one of a call's prompts, so that rows with them are edited alone."""

OPTIONS = {
    DIFFEDIT: (
        "preset",
        "num_inference_steps",
        "guidance_scale",
        "true_cfg_scale",
        "negative_prompt",
        "source_negative_prompt",
        "inpaint_strength",
        "num_maps_per_mask",
        "mask_encode_strength",
        "mask_threshold",
        "mask_refine",
        "mask_grow",
        "mask_feather",
        "preserve_background",
        "guidance_rescale",
        "guidance_stop",
        "encoding",
        "tau_s",
        "local_blend",
        "local_blend_threshold",
        "height",
        "width",
        "focus",
    ),
    RESTYLE: (
        *LEARNED,
        "tau_v",
        "tau_c",
        "tau_s",
        "tau_u",
        "edit_type",
        "word_tau_c",
        "reweight",
        "local_blend",
        "local_blend_threshold",
        "self_attention_side",
        "mask_grow",
        "mask_feather",
    ),
}
"""The options of each method; `mask_image` and `seed` go with either."""

STEPS: Rule = whole_number(1, 1000)
FLAGS = ("mask_refine", "preserve_background", "focus")
CHOICES = {
    "preset": tuple(PRESETS),
    "encoding": ("inversion", "noise", "flowedit"),
    "edit_type": ("replace", "refine"),
    "variant": ("modulate", "direct"),
}
assert set(METHODS.values()) == set(PIPELINE_METHODS)


def read_options(method: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a record sets, checked and in their own types.

    Tables of text, such as CSV, may write numbers, true and false, and what has words in it as JSON; an empty field
    counts as not given.

    Args:
        method: The method, whose options may be set.
        record: Names and values, of which those that are no options are left out.

    Raises:
        RowError: Naming the first option that cannot be used.
    """
    given = {name: record[name] for name in OPTIONS[method] if record.get(name) not in (None, "")}
    given = {name: _typed(name, value) for name, value in given.items()}
    for name, value in given.items():
        _check(name, value)
    try:
        if "num_inference_steps" in given:
            given["num_inference_steps"] = read_number(
                "num_inference_steps", given["num_inference_steps"], STEPS
            )
        return read_numbers(given)
    except ValueError as error:
        raise RowError(str(error).rstrip(".")) from None


def _typed(name: str, value: Any) -> Any:
    """A value from a table of text in the type that the option has."""
    is_list = name == "local_blend" and isinstance(value, str) and value.startswith("[")
    if isinstance(value, str) and (is_list or name in (*FLAGS, *NUMBERS, "num_inference_steps")):
        try:
            return json.loads(value.lower() if name in FLAGS else value)
        except ValueError:
            return value
    return value


def _check(name: str, value: Any) -> None:
    """Raise a `RowError` if a value is not of its option's type; numbers are looked at later."""
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        **dict.fromkeys(FLAGS, (lambda one: isinstance(one, bool), "true or false")),
        **dict.fromkeys(
            ("negative_prompt", "source_negative_prompt"), (lambda one: isinstance(one, str), "text")
        ),
        **dict.fromkeys(PER_WORD, (_is_per_word, "an object of words and numbers")),
        "local_blend": (_are_words, "a word or a list of words"),
        **{key: (kinds.__contains__, f"one of {', '.join(kinds)}") for key, kinds in CHOICES.items()},
    }
    is_right, meaning = rules.get(name, (lambda one: True, ""))
    if not is_right(value):
        raise RowError(f"`{name}` must be {meaning}, got {shortened(value)}")
    if not is_utf8(json.dumps(value, ensure_ascii=False)):
        raise RowError(f"`{name}` holds half of a surrogate pair, which is no character: {shortened(value)}")


def _is_per_word(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, (int, float)) for one in value.values())


def _are_words(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
