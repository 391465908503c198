"""DiffEdit's second and third step: encode the pictures in one of several ways, and decode within the masks."""

from __future__ import annotations

import torch

from semantic_edit.denoisers.denoiser import FLOW_EDIT, FRESH_NOISE
from semantic_edit.editing.flow_edit import FlowEditWalk, flow_edit
from semantic_edit.editing.guidance import PromptPair
from semantic_edit.editing.inversion import StepHooks, Walk, predicting
from semantic_edit.editing.masking import draw_mask_noise
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.locating import Located
from semantic_edit.pipelines.presets import EditGuidance, guidance_of
from semantic_edit.pipelines.sharing import decode_beside_source
from semantic_edit.pipelines.stages import (
    decode_edit,
    guidance_for_copies,
    invert_images,
    new_trajectory,
    with_bar,
)


def edit_guidance(here: Located) -> EditGuidance:
    """How strongly each edit of a call is guided away from another prompt; with FlowEdit, the target's side.

    Args:
        here: What is edited, and where.
    """
    request, options, denoiser = here.request, here.request.options, here.session.denoiser
    if options.encoding == FLOW_EDIT:
        _, left = denoiser.guided(_flow_edit_scales(here)[1])
        return EditGuidance([left] * request.edits, [1.0] * request.edits, [False] * request.edits)
    return guidance_of(
        options.preset,
        None if here.found is None else here.found.recolours,
        request.prompts.described(request.edits),
        options.usual_guidance,
        denoiser.tuning,
    )


def encode_and_decode(
    here: Located, guidance: EditGuidance, hooks: StepHooks
) -> tuple[torch.Tensor, Trajectory | None]:
    """The edited latents, (edits * copies, channels, height, width), and the inversion, if there is one.

    Where all masks are empty, no model is evaluated.

    Args:
        here: What is edited, and where.
        guidance: How strongly each edit is guided.
        hooks: Called around the steps of decoding.
    """
    request, options = here.request, here.request.options
    copies, inversion = options.num_images_per_prompt, request.trajectory
    if here.mask.empty.all():
        return here.clean.expand(request.edits, -1, -1, -1).repeat_interleave(copies, dim=0), inversion
    if options.encoding == FLOW_EDIT and inversion is None:
        return _flow_edited(here, hooks), None
    if inversion is None:
        inversion = _noised(here) if options.encoding == FRESH_NOISE else _inverted(here)
    walk = Walk(inversion.latents[: request.levels + 1], here.mask.weights)
    prompts = PromptPair(here.embeds.target, here.embeds.away_from(guidance.from_source))
    strength = guidance_for_copies(guidance, copies, options.guidance_rescale)
    if options.sharing.is_wanted:
        return decode_beside_source(here, walk, prompts, strength, hooks), inversion
    return decode_edit(here.session, walk, prompts, copies, strength, hooks), inversion


def _inverted(here: Located) -> Trajectory:
    session, clean = here.session, here.clean
    empty = here.embeds.inversion.rows(slice(len(clean)))  # type: ignore[union-attr]
    predict = predicting(session.denoiser.for_encoding(), session.schedule, PromptPair(empty))
    stride = here.request.options.preset.inversion_stride
    return invert_images(session, predict, clean, _to_be_made(here), stride)


def _noised(here: Located) -> Trajectory:
    """The pictures with the same noise at every level: no evaluation of the model, and an end that is not its own."""
    request, schedule, rows = here.request, here.session.schedule, here.clean
    generator = request.options.generator
    if isinstance(generator, list):
        rows = rows.expand(request.edits, -1, -1, -1)
    noise = draw_mask_noise(len(rows), 1, rows.shape[1:], generator, rows.device)[:, 0]
    levels = [schedule.add_noise(rows, noise, level) for level in range(1, request.levels + 1)]
    return _to_be_made(here).filled(torch.stack([rows.float(), *levels]))


def _to_be_made(here: Located) -> Trajectory:
    request = here.request
    strength, frames = request.options.inpaint_strength, request.view.frames
    return new_trajectory(here.session, here.clean, request.levels, strength, frames)


def _flow_edited(here: Located, hooks: StepHooks) -> torch.Tensor:
    session, request, embeds = here.session, here.request, here.embeds
    options, denoiser = request.options, session.denoiser
    copies, edits = options.num_images_per_prompt, request.edits
    clean = here.clean.expand(edits, -1, -1, -1).repeat_interleave(copies, dim=0)

    def draw_noise() -> torch.Tensor:
        noise = draw_mask_noise(edits, 1, clean.shape[1:], options.generator, clean.device)[:, 0]
        return noise.repeat_interleave(copies, dim=0)

    assert embeds.source is not None  # FlowEdit always reads the source prompt
    source, target = (
        denoiser.guided_side(PromptPair(given, embeds.target_negative).repeat(copies), scale)
        for given, scale in zip((embeds.source, embeds.target), _flow_edit_scales(here), strict=True)
    )
    walk = FlowEditWalk(clean, request.levels, draw_noise, here.mask.weights.repeat_interleave(copies, dim=0))
    with session.bar("FlowEdit", request.levels) as progress_bar:
        return flow_edit(session.schedule, walk, source, target, with_bar(hooks, progress_bar))


def _flow_edit_scales(here: Located) -> tuple[float, float]:
    """How strongly the source's and the target's side are guided, in the model's own way."""
    asked = here.request.options.preset.guidance_scale
    source, usual = here.session.denoiser.flow_edit_scales
    return source, usual if asked is None else asked
