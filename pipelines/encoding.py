"""DiffEdit's second and third step: encode the pictures in one of several ways, and decode within the masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from semantic_edit.denoisers.denoiser import FLOW_EDIT, FRESH_NOISE, Denoiser
from semantic_edit.editing.flow_edit import FlowEditWalk, GuidedSide, flow_edit
from semantic_edit.editing.guidance import PromptPair
from semantic_edit.editing.inversion import StepHooks, Walk, predicting
from semantic_edit.editing.masking import draw_mask_noise
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.presets import EditGuidance
from semantic_edit.pipelines.request import EditRequest
from semantic_edit.pipelines.stages import (
    EditEmbeds,
    Session,
    decode_edit,
    guidance_for_copies,
    invert_pictures,
    new_trajectory,
)


@dataclass(frozen=True, eq=False)
class Editing:
    """What is edited, where, and how strongly.

    clean: The pictures' latents, (pictures, channels, height, width).
    weights: The masks, (edits, 1, height, width) in [0, 1].
    """

    clean: torch.Tensor
    weights: torch.Tensor
    guidance: EditGuidance


def encode_and_decode(
    session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds, editing: Editing, hooks: StepHooks
) -> tuple[torch.Tensor, Trajectory | None]:
    """The edited latents, (edits * copies, channels, height, width), and the inversion, if there is one.

    Args:
        session: Of the call.
        request: What was asked for.
        embeds: The prompts, embedded.
        editing: The pictures and masks.
        hooks: Called around the steps of decoding.
    """
    options, guidance = request.options, editing.guidance
    if options.encoding == FLOW_EDIT and request.trajectory is None:
        return _flow_edited(session, request, embeds, editing, hooks), None
    inversion = request.trajectory
    if inversion is None:
        inversion = (_noised if options.encoding == FRESH_NOISE else _inverted)(
            session, request, embeds, editing.clean
        )
    walk = Walk(inversion.latents[: request.levels + 1], editing.weights)
    prompts = PromptPair(embeds.target, embeds.away_from(guidance.from_source))
    copies = options.num_images_per_prompt
    strength = guidance_for_copies(guidance, copies, options.guidance_rescale)
    return decode_edit(session, walk, prompts, copies, strength, hooks), inversion


def _inverted(
    session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds, clean: torch.Tensor
) -> Trajectory:
    empty = embeds.inversion.rows(slice(len(clean)))  # type: ignore[union-attr]
    predict = predicting(session.denoiser.for_encoding(), session.schedule, PromptPair(empty))
    made = new_trajectory(session, request.levels, request.options.inpaint_strength, request.view.frames)
    return invert_pictures(session, predict, clean, made)


def _noised(
    session: Session[Denoiser], request: EditRequest, _: EditEmbeds, clean: torch.Tensor
) -> Trajectory:
    """The pictures with the same noise at every level: no evaluation of the model, and an end that is not its own."""
    generator = request.options.generator
    rows = clean.expand(request.edits, -1, -1, -1) if isinstance(generator, list) else clean
    noise = draw_mask_noise(len(rows), 1, rows.shape[1:], generator, rows.device)[:, 0]
    levels = [session.schedule.add_noise(rows, noise, level) for level in range(1, request.levels + 1)]
    made = new_trajectory(session, request.levels, request.options.inpaint_strength, request.view.frames)
    return made.filled(torch.stack([rows.float(), *levels]))


def _flow_edited(
    session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds, editing: Editing, hooks: StepHooks
) -> torch.Tensor:
    options, denoiser = request.options, session.denoiser
    copies, edits = options.num_images_per_prompt, request.edits
    clean = editing.clean.expand(edits, -1, -1, -1).repeat_interleave(copies, dim=0)
    generator = options.generator
    if isinstance(generator, list):
        generator = [one for one in generator for _ in range(copies)]

    def draw_noise() -> torch.Tensor:
        return draw_mask_noise(len(clean), 1, clean.shape[1:], generator, clean.device)[:, 0]

    source_scale, usual = denoiser.flow_edit_scales
    target_scale = usual if options.preset.guidance_scale is None else options.preset.guidance_scale
    assert embeds.source is not None  # FlowEdit always reads the source prompt
    source, target = (
        GuidedSide(
            model, PromptPair(given, embeds.target_negative if scale > 1 else None).repeat(copies), scale
        )
        for given, (model, scale) in (
            (embeds.source, denoiser.guided(source_scale)),
            (embeds.target, denoiser.guided(target_scale)),
        )
    )
    walk = FlowEditWalk(clean, request.levels, draw_noise, editing.weights.repeat_interleave(copies, dim=0))
    with session.bar("FlowEdit", request.levels) as progress_bar:

        def advance(step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
            changed = {} if hooks.after is None else hooks.after(step, timestep, tensors)
            progress_bar.update()
            return changed

        return flow_edit(session.schedule, walk, source, target, StepHooks(advance, hooks.should_stop))
