"""What was measured to suit the edits of a family of models; a [`Denoiser`] says what its family's values are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EditTuning:
    """How a mask's map is cut and drawn, and how edits of each kind are guided.

    otsu_part: Where the adaptive cut lies between a map's minimum and Otsu's cut.
    coherence: From which coherence on an edit counts as a colour edit; see [`shift_coherence`].
    matte: The fractions of the mask's threshold between which the matte of a colour edit rises from 0 to 1.
    reach: The fraction of the threshold down to which an object edit's mask extends into neighbouring latents: the map
        is low on the rim of the old object, and lowest where the new object will also lie.
    room: How far an object edit's mask is widened, as a fraction of the side of a square with the mask's area.
    source_guidance: The guidance scale of object edits away from the source prompt.
    source_guidance_stop: Where that guidance ends, as a fraction of the steps.
    colour_guidance_stop: Where the guidance of colour edits ends, as a fraction of the steps: later steps draw details,
        which already exist and only have to be kept.
    """

    otsu_part: float
    coherence: float
    matte: tuple[float, float]
    reach: float
    room: float
    source_guidance: float
    source_guidance_stop: float
    colour_guidance_stop: float
