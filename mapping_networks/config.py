"""What a mapping network's config may contain. Values are only compared and counted, never evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from semantic_edit.disk.frames import FRAME_RULE
from semantic_edit.disk.models import FAMILIES
from semantic_edit.disk.reading import (
    Rule,
    check_fields,
    is_finite_number,
    one_of,
    or_none,
    plain_text,
    real_number,
    rising,
    several,
    shortened,
    whole_number,
)
from semantic_edit.disk.sizes import SIZES_RULE
from semantic_edit.mapping_networks.mapping import VARIANTS, parameter_shapes

FORMAT_VERSION = 2
MOST_VALUES = 2**30
PREDICTIONS = ("epsilon", "v_prediction", "sample")
A_NETWORK = "a mapping network"


def check_config(config: Mapping[str, Any]) -> None:
    """Raise unless every entry of a mapping network's config is valid, before anything of these sizes is built.

    Raises:
        ValueError: Naming the entry, what it must be and what it is.
    """
    check_format_version(config["format_version"])
    check_fields({name: config[name] for name in RULES}, RULES, A_NETWORK)
    if len(config["timesteps"]) != config["num_inference_steps"]:
        raise ValueError(
            f"'timesteps' of a mapping network of {config['num_inference_steps']} steps must list one for each step, "
            f"got {len(config['timesteps'])}."
        )
    sizes = ("num_text_tokens", "text_width", "num_image_tokens", "image_width")
    shapes = parameter_shapes(config["variant"], *(config[name] for name in sizes))
    values = config["num_inference_steps"] * sum(math.prod(shape) for shape in shapes.values())
    values += config["num_image_tokens"] * config["image_width"] + math.prod(stored_latents(config)[1])
    if values > MOST_VALUES:
        listed = ", ".join(
            f"{name} {config[name]}" for name in (*sizes, "latent_shape", "num_inference_steps")
        )
        raise ValueError(
            f"A mapping network of these sizes would hold {values:,} values ({listed}). No picture needs that many; "
            f"the limit is {MOST_VALUES:,}."
        )


def stored_latents(config: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """The name and the shape of the tensor with a network's latents.

    It is the whole inversion, (levels + 1, channels, height, width) with level 0 first; networks of format version 1
    have only its noisiest level.
    """
    shape = tuple(config["latent_shape"])
    if config["format_version"] == 1:
        return "latents", shape
    return "trajectory", (config["num_inference_steps"] + 1, *shape)


def check_format_version(version: Any) -> None:
    """Raise if a newer version of the package wrote the network.

    Raises:
        ValueError: Naming both versions, or if `version` is not a version at all.
    """
    is_count, meaning = whole_number(1, 1000)
    if not is_count(version):
        raise ValueError(
            f"'format_version' of a mapping network must be {meaning}, got {shortened(version)}."
        )
    if version > FORMAT_VERSION:
        raise ValueError(
            f"This mapping network has format version {version}, and this version of the package reads up to "
            f"{FORMAT_VERSION}: upgrade `diffusers-semantic-edit`, or learn the picture again."
        )


def check_entries(entries: Iterable[str], known: Iterable[str], required: Iterable[str]) -> None:
    """Raise if a stored config lacks required entries or has unknown ones.

    Args:
        entries: The names that were found; those that begin with an underscore are diffusers' own and ignored.
        known: All names that a config may contain.
        required: Those that it must contain.

    Raises:
        ValueError: Listing the missing and the unknown entries.
    """
    entries = {name for name in entries if not name.startswith("_")}
    missing, unknown = sorted(set(required) - entries), sorted(entries - set(known))
    if missing or unknown:
        raise ValueError(
            f"This is not the config of a mapping network: it lacks {', '.join(missing) or 'nothing'} and has unknown "
            f"entries {shortened(', '.join(unknown), quoted=False) or '(none)'}."
        )


def _are_settings(value: object) -> bool:
    is_name, _ = plain_text(100)
    is_text, _ = plain_text(1000)
    return isinstance(value, dict) and all(
        is_name(name)
        and (is_text(entry) or isinstance(entry, bool) or entry is None or is_finite_number(entry))
        for name, entry in value.items()
    )


def _are_some_sizes(value: Any) -> bool:
    are_sizes, _ = SIZES_RULE
    return bool(value) and are_sizes(value)


RULES: dict[str, Rule] = {
    "variant": one_of(*VARIANTS),
    "num_text_tokens": whole_number(1, 8192),
    "text_width": whole_number(1, 65536),
    "num_image_tokens": whole_number(1, 65536),
    "image_width": whole_number(1, 65536),
    "latent_shape": several(whole_number(1, 65536), 3, 3),  # channels, height, width
    "num_inference_steps": whole_number(1, 10_000),
    "timesteps": rising(highest=1_000_000),
    "schedule_fingerprint": plain_text(1000),
    "prediction_type": one_of(*PREDICTIONS),
    "prompt": plain_text(),
    "negative_prompt": or_none(plain_text()),
    "guidance_scale": real_number(0, 1e6),
    "scaling_factor": real_number(1e-6, 1e6),
    "model_family": one_of(*(family.name for family in FAMILIES)),
    "base_model": plain_text(4096),
    "base_fingerprint": plain_text(1000),
    "digest": plain_text(100),
    "learning": (_are_settings, "names with text, finite numbers or None"),
    "reconstruction_psnr": or_none(real_number(-1000, 1000)),  # dB
    "frame": or_none(FRAME_RULE),
    "text_fingerprint": plain_text(10_000),
    "guided_start": (lambda value: isinstance(value, bool), "true or false"),
    "sizes": or_none((_are_some_sizes, SIZES_RULE[1])),
    "reconstruction_ssim": or_none(real_number(-1.001, 1.001)),  # rounding may lead beyond 1
}
