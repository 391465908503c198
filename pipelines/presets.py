"""DiffEdit's settings by name: the paper's, and those that were best where they were measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from semantic_edit.editing.refinement import changes_colour

COLOUR_GUIDANCE_STOP = 0.5
"""Where a colour edit's guidance ends: what comes after draws details, which are there and only have to stay."""


@dataclass(frozen=True)
class Preset:
    """What a call of [`DiffEditPipeline`] takes where it is not told otherwise; units and names are the call's.

    guidance_stop: `None` chooses by the kind of edit; see [`guidance_stops`].
    mask_room: How far beyond the mask latents may change where the picture's own pixels are pasted back outside it,
        as a part of a latent's side.
    """

    num_inference_steps: int
    num_maps_per_mask: int
    guidance_stop: float | None
    mask_refine: bool
    mask_room: float
    preserve_background: bool


PRESETS = {
    "paper": Preset(
        num_inference_steps=50,
        num_maps_per_mask=10,
        guidance_stop=1.0,
        mask_refine=False,
        mask_room=0.0,
        preserve_background=False,
    ),
    "default": Preset(
        num_inference_steps=20,
        num_maps_per_mask=5,
        guidance_stop=None,
        mask_refine=True,
        mask_room=0.5,
        preserve_background=True,
    ),
}


def preset_of(name: Any, **given: Any) -> Preset:
    """A preset with what a call was given in its place; `None` is not given.

    Raises:
        ValueError: If there is no preset of this name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(
            f"`preset` must be one of {', '.join(map(repr, PRESETS))}, got {name!r}. It gives the values of all "
            "settings that the call leaves out."
        )
    return replace(PRESETS[name], **{field: value for field, value in given.items() if value is not None})


def guidance_stops(stop: float | None, edits: int, coherence: torch.Tensor | None) -> list[float]:
    """The fraction of the steps that are guided, for each edit.

    Args:
        stop: The same for all, or `None`: half of the steps for edits that change a colour, all for the others.
        coherence: (edits,), of the masks that were found, or `None` for masks of the caller's own.
    """
    if stop is not None or coherence is None:
        return [1.0 if stop is None else stop] * edits
    return [COLOUR_GUIDANCE_STOP if recoloured else 1.0 for recoloured in changes_colour(coherence)]
