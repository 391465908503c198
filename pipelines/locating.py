"""The mask of an edit: found, or cut from the caller's own, and shaped by the call's arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.mask_shapes import MaskShape
from semantic_edit.editing.masking import MaskResult
from semantic_edit.pipelines.masks import Drawing, EditMask, draw_edit_mask, shape_edit_mask
from semantic_edit.pipelines.request import EditRequest
from semantic_edit.pipelines.searching import searched_view
from semantic_edit.pipelines.stages import EditEmbeds, Session, clean_latents, locate_edit


def find_or_cut_mask(
    session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds, clean: torch.Tensor
) -> tuple[MaskResult | None, EditMask]:
    """Where the edits of a call apply.

    Args:
        session: Of the call.
        request: What was asked for.
        embeds: The prompts, embedded.
        clean: The pictures' latents, (pictures, channels, height, width).

    Returns:
        What was found, or `None` for a caller's own mask; and the mask.
    """
    options, view, denoiser, found = request.options, request.view, session.denoiser, None
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
        drawn = draw_edit_mask(found, view.images, drawing)
    shape = mask_shape(request, denoiser.cell)
    return found, shape_edit_mask(
        drawn, request.edits, clean, denoiser.cell, shape, is_found=found is not None
    )


@dataclass(frozen=True, eq=False)
class Located:
    """Where the edits of a call apply, and all that was needed to find that out.

    session, request: Of the view that the model works on.
    embeds: The prompts, embedded.
    clean: The pictures' latents, (pictures, channels, height, width).
    found: What was found; `None` for a caller's own mask.
    """

    session: Session[Denoiser]
    request: EditRequest
    embeds: EditEmbeds
    clean: torch.Tensor
    found: MaskResult | None
    mask: EditMask

    def whole_mask(self, cell: int) -> torch.Tensor:
        """The masks over the whole pictures, (edits, 1, height, width) in [0, 1].

        Args:
            cell: Pixels along a latent's side.
        """
        request = self.request
        return request.view.whole_mask(self.mask.pixels, request.own_mask, mask_shape(request, cell))


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
    found, mask = find_or_cut_mask(session, request, embeds, clean)
    return Located(session, request, embeds, clean, found, mask)


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
