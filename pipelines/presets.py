"""DiffEdit's settings by name: the paper's, and those that were best where they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from semantic_edit.editing.refinement import changes_colour

USUAL_GUIDANCE = 7.5

SOURCE_GUIDANCE = 2.5
"""The scale of an object edit's guidance, which leads away from what the picture shows: on validation pictures it
changes more objects than the usual one, away from nothing in particular. It would miss colours."""

COLOUR_GUIDANCE_STOP = 0.5
"""Where a colour edit's guidance ends: what comes after draws details, which are there and only have to stay."""


@dataclass(frozen=True)
class Preset:
    """What a call of [`DiffEditPipeline`] takes where it is not told otherwise; units and names are the call's.

    guidance_scale, guidance_stop: `None` chooses by the kind of edit; see [`guidance_of`].
    mask_room: How far beyond the mask latents may change where the picture's own pixels are pasted back outside it,
        as a part of a latent's side.
    """

    num_inference_steps: int
    num_maps_per_mask: int
    guidance_scale: float | None
    guidance_stop: float | None
    mask_refine: bool
    mask_room: float
    preserve_background: bool


PRESETS = {
    "paper": Preset(
        num_inference_steps=50,
        num_maps_per_mask=10,
        guidance_scale=USUAL_GUIDANCE,
        guidance_stop=1.0,
        mask_refine=False,
        mask_room=0.0,
        preserve_background=False,
    ),
    "default": Preset(
        num_inference_steps=20,
        num_maps_per_mask=5,
        guidance_scale=None,
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


@dataclass(frozen=True)
class EditGuidance:
    """How the edits of a call are guided.

    scales, stops: One for each edit; see `decode_latents`.
    from_source: For each edit, whether it is guided away from the source prompt instead of the negative one.
    """

    scales: list[float]
    stops: list[float]
    from_source: list[bool]


def guidance_of(
    preset: Preset, coherence: torch.Tensor | None, is_described: Sequence[bool], usual_scale: float
) -> EditGuidance:
    """The guidance of each edit, by its kind where the preset leaves that open.

    Args:
        coherence: (edits,), of the masks that were found, or `None` for masks of the caller's own, whose edits may be
            of any kind.
        is_described: For each edit, whether there is a source prompt to guide away from and no negative prompt.
        usual_scale: Of the model, where the preset leaves the scale open and the kind of edit asks for no other.
    """
    edits = len(is_described)
    recoloured = [None] * edits if coherence is None else changes_colour(coherence)
    stop, scale = preset.guidance_stop, preset.guidance_scale
    from_source = [
        scale is None and kind is False and described
        for kind, described in zip(recoloured, is_described, strict=True)
    ]
    return EditGuidance(
        scales=[
            SOURCE_GUIDANCE if contrasted else usual_scale if scale is None else scale
            for contrasted in from_source
        ],
        stops=[(COLOUR_GUIDANCE_STOP if kind else 1.0) if stop is None else stop for kind in recoloured],
        from_source=from_source,
    )
