"""The mask of an edit: found, or cut from the caller's own, and shaped by the call's arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.mask_shapes import MaskShape
from semantic_edit.editing.masking import MaskResult, NoiseContrast
from semantic_edit.editing.tuning import EditTuning
from semantic_edit.pipelines.masks import (
    Drawing,
    EditMask,
    found_and_drawn,
    shape_edit_mask,
    warn_of_alike_prompts,
)
from semantic_edit.pipelines.request import EditRequest
from semantic_edit.pipelines.searching import searched_view
from semantic_edit.pipelines.stages import EditEmbeds, Session, clean_latents, contrast_prompts


@dataclass(frozen=True, eq=False)
class PromptContrast:
    """How each edit's two prompts disagree: the mask at any threshold is drawn from it, without the model.

    noise: The difference of the predictions.
    request: What was asked for, of the view that the model works on.
    tuning: What suits the model.
    cell: Pixels along a latent's side.
    """

    noise: NoiseContrast
    request: EditRequest
    tuning: EditTuning
    cell: int

    def drawn(self, threshold: float) -> tuple[MaskResult, EditMask]:
        """What is found at a threshold, and the mask that it gives."""
        request, options = self.request, self.request.options
        drawing = Drawing(
            threshold=threshold,
            tuning=self.tuning,
            cell=self.cell,
            follows_edges=options.preset.mask_refine,
            is_shaped=options.is_shaped,
        )
        ratio = options.mask.mask_thresholding_ratio
        found, drawn = found_and_drawn(self.noise, request.view.images, drawing, ratio)
        shape = mask_shape(request, self.cell)
        return found, shape_edit_mask(drawn, request.edits, found.soft_mask, self.cell, shape, is_found=True)


def find_or_cut_mask(
    session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds, clean: torch.Tensor
) -> tuple[PromptContrast | None, MaskResult | None, EditMask]:
    """Where the edits of a call apply.

    Args:
        session: Of the call.
        request: What was asked for.
        embeds: The prompts, embedded.
        clean: The pictures' latents, (pictures, channels, height, width).

    Returns:
        How the prompts disagree and what was found, both `None` for a caller's own mask; and the mask.
    """
    options, denoiser = request.options, session.denoiser
    if request.own_mask is not None:
        cut, shape = request.view.cut_mask(request.own_mask), mask_shape(request, denoiser.cell)
        return None, None, shape_edit_mask(cut, request.edits, clean, denoiser.cell, shape)
    latents = clean.expand(request.edits, -1, -1, -1)
    noise = contrast_prompts(
        session, latents, embeds, options.mask, options.usual_guidance, options.generator
    )
    contrast = PromptContrast(noise, request, denoiser.tuning, denoiser.cell)
    found, mask = contrast.drawn(options.mask.mask_threshold)
    warn_of_alike_prompts(found)
    return contrast, found, mask


@dataclass(frozen=True, eq=False)
class Located:
    """Where the edits of a call apply, and all that was needed to find that out.

    session, request: Of the view that the model works on.
    embeds: The prompts, embedded.
    clean: The pictures' latents, (pictures, channels, height, width).
    contrast, found: How the prompts disagree, and what was found; `None` for a caller's own mask.
    """

    session: Session[Denoiser]
    request: EditRequest
    embeds: EditEmbeds
    clean: torch.Tensor
    contrast: PromptContrast | None
    found: MaskResult | None
    mask: EditMask


def locate_request(session: Session[Denoiser], request: EditRequest) -> Located:
    """Embed a call's prompts, settle on the view, and find or cut the mask.

    Args:
        session: Of the call.
        request: What was asked for.
    """
    denoiser = session.denoiser
    embeds = request.prompts.embed(denoiser, request.edits)
    view, clean = searched_view(session, request, embeds)
    if clean is None:
        clean = clean_latents(denoiser, view.images, request.trajectory)
    if view is not request.view:
        request = request.seen(denoiser, view)
        session = replace(session, schedule=request.schedule)
    return Located(session, request, embeds, clean, *find_or_cut_mask(session, request, embeds, clean))


def whole_mask_of(request: EditRequest, mask: EditMask) -> torch.Tensor:
    """The masks over the whole pictures, (edits, 1, height, width) in [0, 1].

    Args:
        request: What was asked for.
        mask: In the view that the model works on.
    """
    cell = mask.pixels.shape[-1] // mask.weights.shape[-1]
    return request.view.whole_mask(mask.pixels, request.own_mask, mask_shape(request, cell))


def mask_shape(request: EditRequest, cell: int) -> MaskShape:
    """How the caller shapes the mask, and how much room the latents get around it.

    Args:
        request: What was asked for.
        cell: Pixels along a latent's side.
    """
    options = request.options
    pastes = request.preserves and options.output_type != "latent"
    room = round(options.preset.mask_room * cell) if pastes else 0
    return MaskShape(options.mask_grow or 0, options.mask_feather or 0.0, room)
