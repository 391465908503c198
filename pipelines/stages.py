"""The stages of an edit, each a function of what all stages of a call share and of the values of one edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.frames import Frame
from semantic_edit.editing.guidance import Guidance, PromptPair
from semantic_edit.editing.inversion import PredictAt, StepHooks, Walk, decode_latents, invert_latents
from semantic_edit.editing.masking import (
    Batches,
    NoiseContrast,
    NoisedImages,
    draw_mask_noise,
    noise_difference,
    num_mask_chunks,
)
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.checks import levels_for
from semantic_edit.pipelines.images import Images
from semantic_edit.pipelines.presets import EditGuidance

SAME_PICTURE_TOLERANCE = 0.1
SAME_PLACE_TOLERANCE = 0.25
"""For the mean of 2 x 2 latents; JPEG at quality 75 or higher, or another decoder, stays below 0.12."""


AnyDenoiser = TypeVar("AnyDenoiser", bound=Denoiser, covariant=True)


@dataclass(frozen=True, eq=False)
class Session(Generic[AnyDenoiser]):
    """What all stages of one call share.

    bar: `bar(name, total)`: makes a progress bar.
    """

    denoiser: AnyDenoiser
    schedule: Schedule
    bar: Callable[[str, int], Any]


@dataclass(frozen=True)
class MaskSettings:
    """How a mask is found; names and units are those of [`DiffEditPipeline.generate_mask`]."""

    num_maps_per_mask: int = 10
    mask_encode_strength: float = 0.5
    mask_thresholding_ratio: float | None = None
    mask_threshold: float = 0.5
    mask_batch_size: int = 10


@dataclass(frozen=True)
class EditEmbeds:
    """An edit's prompts as the network receives them, one for each edit; `None` for those that are not needed."""

    target: Conditioning
    source: Conditioning | None = None
    target_negative: Conditioning | None = None
    source_negative: Conditioning | None = None
    inversion: Conditioning | None = None

    def away_from(self, source: Sequence[bool]) -> Conditioning | None:
        """What each edit is guided away from: the source prompt where `source` is true, else the negative one."""
        if not any(source) or self.source is None or self.target_negative is None:
            return self.target_negative
        return Conditioning.where(
            torch.tensor(source, device=self.source.device), self.source, self.target_negative
        )

    def sides(self) -> tuple[PromptPair, PromptPair]:
        """The two prompts that a mask contrasts, guided only if their negative prompts differ."""
        assert self.source is not None  # embedded whenever a mask is to be found
        if self.source_negative is None or self.target_negative is None:
            return PromptPair(self.source), PromptPair(self.target)
        return PromptPair(self.source, self.source_negative), PromptPair(self.target, self.target_negative)


def encode_images(denoiser: Denoiser, images: Images) -> torch.Tensor:
    """Scaled latents, (batch, channels, height, width) in float32; see [`Denoiser.encode`]."""
    pixels = images.pixels
    if pixels is None:
        return images.latents.to(denoiser.device)  # type: ignore[union-attr]
    return denoiser.encode(pixels)


def check_same_image(latents: torch.Tensor, trajectory: Trajectory) -> None:
    """Raise unless a trajectory is of the call's picture.

    Args:
        latents: (batch, channels, height, width), of the call's picture.
        trajectory: The inversion.

    Raises:
        ValueError: If the two differ by more than rounding and compression explain.
    """
    own = trajectory.latents[0].to(latents.device)
    differences = (own - latents).abs().mean(1) / latents.std().clamp(min=1e-6)
    everywhere = float(differences.mean((1, 2)).max())
    places = F.avg_pool2d(differences, (min(2, latents.shape[2]), min(2, latents.shape[3])), stride=1)
    somewhere = float(places.max())
    if everywhere > SAME_PICTURE_TOLERANCE or somewhere > SAME_PLACE_TOLERANCE:
        raise ValueError(
            "The `trajectory` (or `image_latents`) is of another picture than `image`, or of one that has since been "
            f"retouched: their clean latents differ by {everywhere:.2g} standard deviations on average and by "
            f"{somewhere:.2g} in one place, where rounding alone stays below {SAME_PICTURE_TOLERANCE} and "
            f"{SAME_PLACE_TOLERANCE}. Pass the picture that was inverted, or leave out one of the two."
        )


def clean_latents(denoiser: Denoiser, images: Images, trajectory: Trajectory | None) -> torch.Tensor:
    """The pictures' own latents, (batch, channels, height, width), from a known inversion if there is one.

    Raises:
        ValueError: If the inversion is of another picture.
    """
    if trajectory is None:
        return encode_images(denoiser, images)
    if images.batch_size:
        check_same_image(encode_images(denoiser, images), trajectory)
    return trajectory.latents[0].to(denoiser.device).float()


def contrast_prompts(
    session: Session[Denoiser],
    latents: torch.Tensor,
    embeds: EditEmbeds,
    settings: MaskSettings,
    guidance_scale: float,
    generator: torch.Generator | list[torch.Generator] | None,
) -> NoiseContrast:
    """How the predictions under each edit's two prompts differ, from which its mask is found.

    Args:
        session: Of the call.
        latents: Clean, (edits, channels, height, width).
        embeds: The prompts, embedded.
        settings: How to find it.
        guidance_scale: The guidance scale; it has an effect only if the negative prompts differ.
        generator: One for all edits, or one for each.
    """
    level = levels_for(session.schedule, "mask_encode_strength", settings.mask_encode_strength)
    edits, maps = latents.shape[0], settings.num_maps_per_mask
    noise = draw_mask_noise(edits, maps, latents.shape[1:], generator, latents.device)
    source, target = embeds.sides()
    chunks = num_mask_chunks(edits, maps, 2 if source.unconditional is None else 4, settings.mask_batch_size)
    with session.bar("mask, in batches", chunks) as progress_bar:
        return noise_difference(
            session.denoiser,
            NoisedImages(session.schedule, latents, noise, level),
            source,
            target,
            guidance_scale,
            Batches(settings.mask_batch_size, on_done=lambda: progress_bar.update()),
        )


def invert_images(
    session: Session[Denoiser],
    predict: PredictAt,
    clean: torch.Tensor,
    made: Trajectory,
    stride: int,
    on_step: Callable[[int, float, torch.Tensor], None] | None = None,
) -> Trajectory:
    """Encode clean latents, (batch, channels, height, width).

    Args:
        session: Of the call.
        predict: The prediction for each step; see [`predicting`].
        clean: The latents.
        made: The trajectory to return, except for its latents; see [`new_trajectory`].
        stride: Number of steps for each evaluation of the model.
        on_step: `(step, timestep, latents)`, called after each step.

    Returns:
        `made` with all its latents.
    """
    with session.bar("invert", made.levels) as progress_bar:

        def advance(step: int, timestep: float, reached: torch.Tensor) -> None:
            progress_bar.update()
            if on_step is not None:
                on_step(step, timestep, reached)

        return made.filled(invert_latents(predict, session.schedule, clean, made.levels, advance, stride))


def new_trajectory(
    session: Session[Denoiser], clean: torch.Tensor, levels: int, strength: float, frames: tuple[Frame, ...]
) -> Trajectory:
    """A trajectory with DiffEdit's empty prompt and no guidance; its latents are still to be computed.

    Args:
        session: Of the call.
        clean: The pictures' latents, (pictures, channels, height, width).
        levels: Number of levels.
        strength: The fraction of the schedule that was asked for.
        frames: The part of each picture that is inverted.
    """
    schedule, model = session.schedule, session.denoiser.known(*clean.shape[-2:])
    return Trajectory(
        latents=torch.empty(levels + 1, 0, 0, 0, 0),
        timesteps=schedule.timesteps[:levels],
        num_inference_steps=schedule.num_inference_steps,
        strength=strength,
        prediction_type=schedule.prediction_type,
        schedule_fingerprint=schedule.fingerprint,
        model_fingerprint=model.fingerprint,
        scaling_factor=session.denoiser.scaling_factor,
        prompts=("",),
        frames=frames,
        model_family=session.denoiser.family.name,
        sizes=model.sizes,
    )


def decode_edit(
    session: Session[Denoiser],
    walk: Walk,
    prompts: PromptPair,
    copies: int,
    guidance: Guidance,
    hooks: StepHooks,
) -> torch.Tensor:
    """Decode every edit, `copies` times; copies are adjacent in the batch.

    Args:
        session: Of the call.
        walk: Latents (levels + 1, edits or 1, channels, height, width).
        prompts: One for each edit.
        copies: Copies of each edit.
        guidance: A scale and a stop for each row of the result.
        hooks: Called around the steps.

    Returns:
        (edits * copies, channels, height, width).
    """
    edits, mask = len(prompts.conditional), walk.mask
    latents = walk.latents.to(session.denoiser.device).expand(-1, edits, -1, -1, -1)
    with session.bar("decode", len(latents) - 1) as progress_bar:
        return decode_latents(
            session.denoiser,
            session.schedule,
            Walk(
                latents.repeat_interleave(copies, dim=1),
                None if mask is None else mask.repeat_interleave(copies, dim=0),
            ),
            prompts.repeat(copies),
            guidance,
            with_bar(hooks, progress_bar),
        )


def with_bar(hooks: StepHooks, progress_bar: Any) -> StepHooks:
    """The same hooks, with a progress bar that each step moves."""

    def advance(step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        changed = {} if hooks.after is None else hooks.after(step, timestep, tensors)
        progress_bar.update()
        return changed

    return StepHooks(advance, hooks.should_stop)


def guidance_for_copies(guidance: EditGuidance, copies: int, rescale: float) -> Guidance:
    """The guidance of a batch with several adjacent copies of each edit."""
    return Guidance(
        [scale for scale in guidance.scales for _ in range(copies)],
        rescale,
        [stop for stop in guidance.stops for _ in range(copies)],
    )
