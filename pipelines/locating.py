"""The mask of an edit: found, or cut from the caller's own, and shaped by the call's arguments."""

from __future__ import annotations

import torch

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.mask_shapes import MaskShape
from semantic_edit.editing.masking import MaskResult
from semantic_edit.pipelines.masks import Drawing, EditMask, draw_edit_mask, shape_edit_mask
from semantic_edit.pipelines.request import EditRequest
from semantic_edit.pipelines.stages import EditEmbeds, Session, locate_edit
from semantic_edit.pipelines.views import View


def find_or_cut_mask(
    session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds, view: View, clean: torch.Tensor
) -> tuple[MaskResult | None, EditMask]:
    """Where the edits of a call apply.

    Args:
        session: Of the call.
        request: What was asked for.
        embeds: The prompts, embedded.
        view: The area that the model works on.
        clean: The pictures' latents, (pictures, channels, height, width).

    Returns:
        What was found, or `None` for a caller's own mask; and the mask.
    """
    options, denoiser, found = request.options, session.denoiser, None
    if request.own_mask is not None:
        drawn = view.cut_mask(request.own_mask)
    else:
        latents = clean.expand(request.edits, -1, -1, -1)
        found = locate_edit(session, latents, embeds, options.mask, options.usual_guidance, options.generator)
        drawing = Drawing(
            threshold=options.mask.mask_threshold,
            tuning=denoiser.tuning,
            cell=denoiser.cell,
            follows_edges=options.preset.mask_refine,
            is_shaped=options.is_shaped,
        )
        drawn = draw_edit_mask(found, view.pictures, drawing)
    shape = mask_shape(request, denoiser.cell)
    return found, shape_edit_mask(
        drawn, request.edits, clean, denoiser.cell, shape, is_found=found is not None
    )


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
