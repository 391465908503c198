"""DiffEdit's settings by name: the paper's, and those that were measured to be best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from semantic_edit.editing.tuning import EditTuning

USUAL_GUIDANCE = 7.5


@dataclass(frozen=True)
class Preset:
    """The settings of a [`DiffEditPipeline`] call where it does not set them itself; names and units are the call's.

    inversion_stride: Number of steps of the inversion for each evaluation of the model; see [`invert_latents`].
    guidance_scale, guidance_stop: `None` chooses by the kind of edit; see [`guidance_of`].
    mask_room: How far beyond the mask latents may change if the original pixels are pasted back outside it, as a
        fraction of a latent's side.
    """

    num_inference_steps: int
    num_maps_per_mask: int
    inversion_stride: int
    guidance_scale: float | None
    guidance_stop: float | None
    mask_refine: bool
    mask_room: float
    preserve_background: bool


PRESETS = {
    "paper": Preset(
        num_inference_steps=50,
        num_maps_per_mask=10,
        inversion_stride=1,
        guidance_scale=USUAL_GUIDANCE,
        guidance_stop=1.0,
        mask_refine=False,
        mask_room=0.0,
        preserve_background=False,
    ),
    "default": Preset(
        num_inference_steps=20,
        num_maps_per_mask=5,
        inversion_stride=3,
        guidance_scale=None,
        guidance_stop=None,
        mask_refine=True,
        mask_room=0.5,
        preserve_background=True,
    ),
}


def preset_of(name: Any, **given: Any) -> Preset:
    """A preset with the values given in a call in place of its own; `None` counts as not given.

    Args:
        name: The preset's name.
        given: The call's settings.

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
    from_source: For each edit, whether it is guided away from the source prompt instead of the negative prompt.
    """

    scales: list[float]
    stops: list[float]
    from_source: list[bool]


def guidance_of(
    preset: Preset,
    recolours: Sequence[bool] | None,
    is_described: Sequence[bool],
    usual_scale: float,
    tuning: EditTuning,
) -> EditGuidance:
    """The guidance of each edit, chosen by its kind where the preset leaves that open.

    Args:
        preset: With the call's own settings in place of the preset's.
        recolours: For each edit, whether its mask is that of a colour edit; `None` for the caller's own masks, whose
            edits may be of any kind.
        is_described: For each edit, whether there is a source prompt to guide away from and no negative prompt.
        usual_scale: The model's scale, used if neither the preset nor the kind of edit sets another.
        tuning: What suits the model.
    """
    edits = len(is_described)
    recoloured: Sequence[bool | None] = [None] * edits if recolours is None else recolours
    stop, scale = preset.guidance_stop, preset.guidance_scale
    from_source = [
        scale is None and kind is False and described
        for kind, described in zip(recoloured, is_described, strict=True)
    ]
    ends = [
        tuning.source_guidance_stop if contrasted else tuning.colour_guidance_stop if kind else 1.0
        for kind, contrasted in zip(recoloured, from_source, strict=True)
    ]
    return EditGuidance(
        scales=[
            tuning.source_guidance if contrasted else usual_scale if scale is None else scale
            for contrasted in from_source
        ],
        stops=ends if stop is None else [stop] * edits,
        from_source=from_source,
    )
