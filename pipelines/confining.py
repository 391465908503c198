"""What confines a restyle: nothing, the caller's own mask, or one that is found as DiffEdit finds its masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.mask_shapes import MaskShape, mask_to_tensor
from semantic_edit.pipelines.finishing import Composition
from semantic_edit.pipelines.images import Images
from semantic_edit.pipelines.masks import (
    Drawing,
    EditMask,
    found_and_drawn,
    mask_of_everything,
    shape_edit_mask,
    warn_of_alike_prompts,
)
from semantic_edit.pipelines.presets import PRESETS
from semantic_edit.pipelines.stages import (
    EditEmbeds,
    MaskSettings,
    Session,
    contrast_prompts,
    encode_images,
)
from semantic_edit.pipelines.views import View

AUTOMATIC = "auto"
"""The `mask_image` of a restyle whose mask is to be found."""


@dataclass(frozen=True, eq=False)
class Confinement:
    """What a call says about where its edits may be.

    drawn: The caller's own masks, (edits or 1, 1, any, any), or `None`.
    is_found: Whether masks are to be found.
    threshold: At which found masks are cut.
    shape: How the caller shapes them.
    keeps: Whether the picture's own pixels are kept outside of them.
    generator: Draws the noise with which they are found; by default the same noise in every call.
    """

    drawn: torch.Tensor | None
    is_found: bool
    threshold: float
    shape: MaskShape
    keeps: bool
    generator: torch.Generator | list[torch.Generator] | None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Confinement:
        """Read a call's arguments.

        Raises:
            ValueError: If the mask cannot be read.
        """
        mask = given["mask_image"]
        is_found = isinstance(mask, str) and mask == AUTOMATIC
        if isinstance(mask, str) and not is_found:
            raise ValueError(
                f"`mask_image` is the word {mask!r}; pass a picture, or {AUTOMATIC!r} for a mask that is found by the "
                "words that differ."
            )
        return cls(
            drawn=None if mask is None or is_found else mask_to_tensor(mask),
            is_found=is_found,
            threshold=given["mask_threshold"],
            shape=MaskShape(given["mask_grow"] or 0, given["mask_feather"] or 0.0),
            keeps=given["preserve_background"],
            generator=given["generator"],
        )

    def check(self, view: View, walk: torch.Tensor | None) -> None:
        """Raise a ValueError if there is nothing to find a mask in, or no pixels to keep.

        Args:
            view: Of the call, with the picture if it was given.
            walk: The learned picture's inversion, or `None`.
        """
        if self.keeps and not (view.has_pixels and (self.is_found or self.drawn is not None)):
            raise ValueError(
                "`preserve_background=True` keeps the pixels of `image` outside of `mask_image`; pass both."
            )
        if self.is_found and walk is None and not view.has_pixels:
            raise ValueError(
                f"`mask_image={AUTOMATIC!r}` looks at the picture, which a mapping network of format version 1 does "
                "not hold; pass the picture as `image`, or learn it again."
            )


@dataclass(frozen=True, eq=False)
class Confined:
    """Where the edits of a restyle may be.

    mask: In the view that the model works on.
    inside: The weights with which latents are blended, or `None` if nothing confines the edits.
    seen_only: As in [`Composition`].
    """

    mask: EditMask
    inside: torch.Tensor | None = None
    seen_only: Sequence[bool] = ()

    def laid(self, view: View, asked: Confinement) -> Composition:
        """How the edits are laid over the picture of a view."""
        whole = view.whole_mask(self.mask.pixels, asked.drawn, asked.shape)
        return Composition(view, self.mask, asked.keeps, whole, self.seen_only)


def confined(
    session: Session[Denoiser], asked: Confinement, view: View, told: Conditioning, walk: torch.Tensor
) -> Confined:
    """Where the edits of a restyle may be.

    Args:
        session: Of the call.
        asked: What the caller wants.
        view: Of the call, with the picture if it was given.
        told: The learned prompt, then the edits' prompts, embedded.
        walk: The learned picture's latents, (any number, channels, height, width), its clean ones first if it is an
            inversion.

    Source: the mask, DiffEdit, arXiv:2210.11427, Sec. 3.2, step 1.
    """
    edits, cell = len(told) - 1, session.denoiser.cell
    if asked.is_found:
        return _found(session, asked, view, told, walk)
    if asked.drawn is None:
        return Confined(mask_of_everything(walk, edits, cell))
    mask = shape_edit_mask(view.cut_mask(asked.drawn), edits, walk[:1], cell, asked.shape)
    return Confined(mask, mask.weights)


def _found(
    session: Session[Denoiser], asked: Confinement, view: View, told: Conditioning, walk: torch.Tensor
) -> Confined:
    """The masks that the prompts give, drawn as DiffEdit's default preset draws them."""
    denoiser, preset, edits = session.denoiser, PRESETS["default"], len(told) - 1
    clean = walk[:1].float() if len(walk) > 1 else encode_images(denoiser, view.images)
    images = view.images if view.has_pixels else Images(planes=denoiser.decode(clean))
    settings = MaskSettings(
        num_maps_per_mask=preset.num_maps_per_mask,
        mask_encode_strength=max(MaskSettings.mask_encode_strength, 1 / session.schedule.num_inference_steps),
    )
    generator = asked.generator or torch.Generator().manual_seed(0)
    sides = EditEmbeds(target=told.rows(slice(1, None)), source=told.rows(slice(1)).expand(edits))
    contrast = contrast_prompts(session, clean.expand(edits, -1, -1, -1), sides, settings, 1.0, generator)
    is_shaped = asked.shape != MaskShape()
    drawing = Drawing(asked.threshold, denoiser.tuning, denoiser.cell, True, is_shaped)
    found, drawn = found_and_drawn(contrast, images, drawing)
    warn_of_alike_prompts(found)
    # also without the picture's own pixels: a rim of the old object would be left where latents are cut along its edge
    shape = replace(asked.shape, room=round(preset.mask_room * denoiser.cell))
    mask = shape_edit_mask(drawn, edits, clean, denoiser.cell, shape, is_found=True)
    return Confined(mask, mask.weights, () if is_shaped or not asked.keeps else found.has_room)
