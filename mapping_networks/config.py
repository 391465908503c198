"""What a mapping network's config may hold. Values are compared and counted, never evaluated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from semantic_edit.mapping_networks.mapping import VARIANTS

FORMAT_VERSION = 1
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def check_config(config: Mapping[str, Any]) -> None:
    """Check every entry of a mapping network's config.

    Raises:
        ValueError: Naming the entry, what it must be and what it is.
    """
    check_format_version(config["format_version"])
    for name, (is_right, rule) in RULES.items():
        if not is_right(config[name]):
            raise ValueError(f"`{name}` of a mapping network must be {rule}, got {config[name]!r}.")
    if len(config["timesteps"]) != config["num_inference_steps"]:
        raise ValueError(
            f"`timesteps` of a mapping network of {config['num_inference_steps']} steps must hold as many, got "
            f"{len(config['timesteps'])}."
        )


def check_format_version(version: Any) -> None:
    """Refuse what a newer version of the package wrote."""
    if not _is_count(version):
        raise ValueError(
            f"`format_version` of a mapping network must be a positive integer, got {version!r}."
        )
    if version > FORMAT_VERSION:
        raise ValueError(
            f"This mapping network has format version {version}, and this version of the package reads up to "
            f"{FORMAT_VERSION}: upgrade `diffusers-semantic-edit`, or learn the picture again."
        )


def check_entries(entries: Iterable[str], known: Iterable[str], required: Iterable[str]) -> None:
    """Refuse a stored config with entries that are missing or that nothing here reads.

    Raises:
        ValueError: Naming both.
    """
    entries = {name for name in entries if not name.startswith("_")}
    missing, unknown = sorted(set(required) - entries), sorted(entries - set(known))
    if missing or unknown:
        raise ValueError(
            f"This is no mapping network's config: it lacks {', '.join(missing) or 'nothing'} and has unknown "
            f"entries {', '.join(unknown) or '(none)'}."
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _are_timesteps(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or not all(
        _is_count(timestep) or timestep == 0 for timestep in value
    ):
        return False
    return all(below < above for below, above in itertools.pairwise(value))


def _is_latent_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(_is_count(side) for side in value)


def _are_settings(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and (_is_text(entry) or isinstance(entry, bool) or _is_number_or_none(entry))
        for name, entry in value.items()
    )


Rule = tuple[Callable[[Any], bool], str]
COUNT: Rule = (_is_count, "a positive integer")
TEXT: Rule = (_is_text, "a string")
POSITIVE: Rule = (_is_positive, "a positive number")
RULES: dict[str, Rule] = {
    "variant": (lambda value: value in VARIANTS, '"modulate" or "direct"'),
    "num_text_tokens": COUNT,
    "text_width": COUNT,
    "num_image_tokens": COUNT,
    "image_width": COUNT,
    "latent_shape": (_is_latent_shape, "three positive integers (channels, height, width)"),
    "num_inference_steps": COUNT,
    "timesteps": (_are_timesteps, "increasing integers from 0 on, the least noisy first"),
    "schedule_fingerprint": TEXT,
    "prediction_type": (lambda value: value in PREDICTIONS, f"one of {', '.join(PREDICTIONS)}"),
    "prompt": TEXT,
    "negative_prompt": TEXT,
    "guidance_scale": (_is_number, "a finite number"),
    "scaling_factor": POSITIVE,
    "base_model": TEXT,
    "base_fingerprint": TEXT,
    "digest": TEXT,
    "learning": (_are_settings, "names with text, finite numbers or None"),
    "reconstruction_psnr": (_is_number_or_none, "a finite number of dB or None"),
    "reconstruction_ssim": (_is_number_or_none, "a finite number or None"),
}
