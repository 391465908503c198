"""The stages of an edit, each a function of a pipeline's components and the values of one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from semantic_edit.disk.reading import shortened
from semantic_edit.editing.finite import check_finite
from semantic_edit.editing.frames import Frame
from semantic_edit.editing.guidance import PredictNoise
from semantic_edit.editing.inversion import decode_latents, invert_latents
from semantic_edit.editing.mask_shapes import MaskShape, grow_mask, mask_to_latents, shape_mask
from semantic_edit.editing.masking import (
    NEGLIGIBLE_DIFFERENCE,
    MaskResult,
    draw_mask_noise,
    find_mask,
    noise_difference,
    num_mask_chunks,
    outline_mask,
)
from semantic_edit.editing.numbers import check_dense
from semantic_edit.editing.refinement import drawn_mask, followed_mask
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.checks import levels_for
from semantic_edit.pipelines.conditioning import restored_lora_scale
from semantic_edit.pipelines.identity import network_identity
from semantic_edit.pipelines.pictures import Pictures
from semantic_edit.pipelines.presets import EditGuidance
from semantic_edit.pipelines.progress import named_bar
from semantic_edit.pipelines.ranges import plain_numbers

SAME_PICTURE_TOLERANCE = 0.1
SAME_PLACE_TOLERANCE = 0.25
"""Of 2 x 2 latents, where JPEG from quality 75 on and another decoder stay below 0.12."""


@dataclass(frozen=True)
class MaskSettings:
    """How a mask is found; the names and units are those of [`DiffEditPipeline.generate_mask`]."""

    num_maps_per_mask: int = 10
    mask_encode_strength: float = 0.5
    mask_thresholding_ratio: float | None = None
    mask_threshold: float = 0.5
    mask_batch_size: int = 10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, *plain_numbers(**{name: value}))


@dataclass(frozen=True)
class EditEmbeds:
    """The embeddings of one edit, (edits, tokens, width) each; `None` where not needed."""

    target: torch.Tensor
    source: torch.Tensor | None = None
    target_negative: torch.Tensor | None = None
    source_negative: torch.Tensor | None = None
    inversion: torch.Tensor | None = None

    def away_from(self, source: Sequence[bool]) -> torch.Tensor | None:
        """What each edit is guided away from: the negative prompt, or the source prompt where told."""
        if not any(source) or self.source is None or self.target_negative is None:
            return self.target_negative
        rows = torch.tensor(source, device=self.source.device)
        return torch.where(rows[:, None, None], self.source, self.target_negative)


@dataclass(frozen=True)
class EditMask:
    """Where an edit applies.

    pixels: (edits, 1, height, width) in [0, 1].
    weights: (edits, 1, height // factor, width // factor), with which latents are blended: the mask and what room there
        is around it, averaged over each latent's pixels.
    empty: (edits,) booleans: nothing is to be edited there.
    """

    pixels: torch.Tensor
    weights: torch.Tensor
    empty: torch.Tensor


@contextmanager
def components_restored(pipe: Any) -> Iterator[None]:
    """Leave the components as they were, however the call ends: offloaded, and with their LoRA scale."""
    try:
        with restored_lora_scale(pipe.unet), restored_lora_scale(pipe.text_encoder):
            yield
    finally:
        pipe.maybe_free_model_hooks()


def noise_predictor(
    pipe: Any,
    cross_attention_kwargs: dict[str, Any] | None = None,
    borrowed: Callable[..., Any] | None = None,
) -> PredictNoise:
    """The pipeline's UNet, `borrowed` or as it is, as `PredictNoise`: float32 in and out, whatever it
    and the embeddings are in."""
    unet = borrowed or pipe.unet

    def predict_noise(latents: torch.Tensor, timestep: int, prompt_embeds: torch.Tensor) -> torch.Tensor:
        # as a tensor, because torch.compile makes a graph of its own for each integer; filled where it is used, because
        # bringing it there would wait for the GPU at every step
        timestep_tensor = torch.full((), timestep, device=latents.device)
        return unet(
            latents.to(prompt_embeds.dtype),
            timestep_tensor,
            encoder_hidden_states=prompt_embeds,
            cross_attention_kwargs=cross_attention_kwargs,
            return_dict=False,
        )[0].float()

    return predict_noise


def encode_pictures(pipe: Any, pictures: Pictures, device: torch.device | None = None) -> torch.Tensor:
    """Scaled latents, (batch, channels, height, width) in float32: the posterior's mode, drawn from nothing.

    Args:
        device: The pipeline's, where it is known: diffusers walks through all modules to find it.

    Raises:
        FloatingPointError: If the VAE gives NaN or infinite values.
    """
    device = device or pipe._execution_device
    pixels = pictures.pixels
    if pixels is None:
        return pictures.latents.to(device)  # type: ignore[union-attr]
    pixels = (2 * pixels.to(device) - 1).to(pipe.vae.dtype)
    encoded = pipe.vae.encode(pixels)
    # an AutoencoderTiny knows no distribution
    mode = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    check_finite("the VAE's encoder", mode)
    shift = pipe.vae.config.get("shift_factor") or 0.0
    return (mode.float() - shift) * pipe.vae.config.scaling_factor


def check_same_picture(latents: torch.Tensor, trajectory: Trajectory) -> None:
    """Refuse to edit one picture along another one's trajectory.

    Args:
        latents: (batch, channels, height, width) of the call's picture.
    """
    own = trajectory.latents[0].to(latents.device)
    differences = (own - latents).abs().mean(1) / latents.std().clamp(min=1e-6)
    everywhere = float(differences.mean((1, 2)).max())
    places = F.avg_pool2d(differences, (min(2, latents.shape[2]), min(2, latents.shape[3])), stride=1)
    somewhere = float(places.max())
    if everywhere > SAME_PICTURE_TOLERANCE or somewhere > SAME_PLACE_TOLERANCE:
        raise ValueError(
            "The `trajectory` (or `image_latents`) is of another picture than `image`, or of one that was retouched "
            f"since: their clean latents differ by {everywhere:.2g} standard deviations on average and by "
            f"{somewhere:.2g} in one place, where rounding alone stays below {SAME_PICTURE_TOLERANCE} and "
            f"{SAME_PLACE_TOLERANCE}. Pass the picture that was inverted, or leave out one of the two."
        )


def clean_latents(
    pipe: Any, pictures: Pictures, trajectory: Trajectory | None, device: torch.device
) -> torch.Tensor:
    """The pictures' own latents, from a known inversion where there is one: (batch, channels, height, width)."""
    if trajectory is None:
        return encode_pictures(pipe, pictures, device)
    if pictures.batch_size:
        check_same_picture(encode_pictures(pipe, pictures, device), trajectory)
    return trajectory.latents[0].to(device).float()


def locate_edit(
    pipe: Any,
    schedule: Schedule,
    latents: torch.Tensor,
    embeds: EditEmbeds,
    settings: MaskSettings,
    guidance_scale: float,
    generator: torch.Generator | list[torch.Generator] | None,
    cross_attention_kwargs: dict[str, Any] | None,
) -> MaskResult:
    """Find the mask of every edit; `latents` are clean, (edits, channels, height, width)."""
    level = levels_for(schedule, "mask_encode_strength", settings.mask_encode_strength)
    edits, maps = latents.shape[0], settings.num_maps_per_mask
    noise = draw_mask_noise(edits, maps, latents.shape[1:], generator, latents.device)
    negatives = embeds.source_negative is not None and embeds.target_negative is not None
    chunks = num_mask_chunks(edits, maps, 4 if negatives else 2, settings.mask_batch_size)
    with named_bar(pipe, "mask, in batches", chunks) as progress_bar:
        contrast = noise_difference(
            noise_predictor(pipe, cross_attention_kwargs),
            schedule,
            latents,
            noise,
            level,
            embeds.source,  # type: ignore[arg-type]
            embeds.target,
            embeds.source_negative if negatives else None,
            embeds.target_negative if negatives else None,
            guidance_scale,
            settings.mask_batch_size,
            on_chunk=lambda: progress_bar.update(),
        )
    found = find_mask(contrast, settings.mask_thresholding_ratio, settings.mask_threshold)
    _warn_of_alike_prompts(found)
    return found


def _warn_of_alike_prompts(found: MaskResult) -> None:
    alike = (found.relative_difference < NEGLIGIBLE_DIFFERENCE).nonzero().flatten().tolist()
    if alike:
        whose = "" if len(found.relative_difference) == 1 else f" for edits {alike}"
        warnings.warn(
            f"The source and target prompts barely differ{whose}: their predictions are within "
            f"{NEGLIGIBLE_DIFFERENCE:.1%} of each other, so the mask shows little but rounding. Name the "
            "thing that is to change in both prompts, or pass a `mask_image`.",
            stacklevel=5,
        )


def draw_edit_mask(
    found: MaskResult,
    pictures: Pictures,
    mask_threshold: float,
    factor: int,
    refine: bool,
    shaped: bool,
) -> torch.Tensor:
    """A found mask in pixels, (edits, 1, height, width) in [0, 1].

    Args:
        refine: Whether it follows the picture's edges and is drawn as the edit wants it.
        shaped: Whether the caller shapes it, so that it is only cut at the threshold.
    """
    if not refine:
        return outline_mask(found.soft_mask, mask_threshold, factor)
    picture = pictures.pixels
    if picture is not None:
        picture = picture.to(found.soft_mask.device).expand(found.soft_mask.shape[0], -1, -1, -1)
    if shaped:
        return (followed_mask(found.soft_mask, factor, picture) > mask_threshold).float()
    return drawn_mask(found.soft_mask, found.coherence, mask_threshold, factor, picture)


def shape_edit_mask(
    mask: torch.Tensor, edits: int, clean: torch.Tensor, factor: int, shape: MaskShape, is_found: bool = False
) -> EditMask:
    """Grow and feather a mask of any size, and warn where there is nothing to edit or nothing to keep.

    Args:
        mask: (edits or 1, 1, any, any) in [0, 1].
        clean: The pictures' latents, (batch, channels, height, width).
        factor: Pixels to a latent on each side.
        is_found: Whether it is no mask of the caller's own.
    """
    height, width = (side * factor for side in clean.shape[-2:])
    pixels = shape_mask(mask.to(clean.device), height, width, shape).expand(edits, -1, -1, -1)
    weights = mask_to_latents(grow_mask(pixels, shape.room), factor)
    _warn_of_masks(pixels, is_found)
    return EditMask(pixels, weights, empty=pixels.flatten(1).amax(1) == 0)


def _warn_of_masks(pixels: torch.Tensor, is_found: bool) -> None:
    """Warn of masks, (edits, 1, height, width), that edit nothing, little or all."""
    highest, lowest = pixels.flatten(1).amax(1), pixels.flatten(1).amin(1)
    told = {
        "is empty, so nothing is edited. "
        + (
            "Lower `mask_threshold`, or name the thing that is to change in both prompts."
            if is_found
            else "Paint white in `mask_image` what may change."
        ): highest == 0,
        "is nowhere brighter than half, so the edit is laid only thinly over the picture. If that is not meant, divide "
        "`mask_image` by its maximum.": (highest > 0) & (highest < 0.5) & (not is_found),
        "covers the whole picture, so nothing of it is kept. "
        + ("Raise `mask_threshold`." if is_found else "Leave black in `mask_image` what must stay."): lowest
        == 1,
    }
    for what, which in told.items():
        rows = which.nonzero().flatten().tolist()
        if rows:
            whose = "The mask" if len(pixels) == 1 else f"The mask of edits {rows}"
            warnings.warn(f"{whose} {what}", stacklevel=5)


def invert_pictures(
    pipe: Any,
    schedule: Schedule,
    levels: int,
    strength: float,
    latents: torch.Tensor,
    prompt_embeds: torch.Tensor,
    negative_prompt_embeds: torch.Tensor | None = None,
    guidance_scale: float = 1.0,
    prompts: tuple[str, ...] | None = ("",),
    cross_attention_kwargs: dict[str, Any] | None = None,
    adjust_prediction: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor] | None = None,
    on_step: Callable[[int, int, torch.Tensor], None] | None = None,
    frames: tuple[Frame, ...] = (),
) -> Trajectory:
    """Encode clean latents, (batch, channels, height, width), through `levels` levels of a schedule.

    Args:
        frames: What the latents are of.
    """
    with named_bar(pipe, "invert", levels) as progress_bar:

        def advance(step: int, timestep: int, reached: torch.Tensor) -> None:
            progress_bar.update()
            if on_step is not None:
                on_step(step, timestep, reached)

        kept = invert_latents(
            noise_predictor(pipe, cross_attention_kwargs),
            schedule,
            latents,
            prompt_embeds,
            levels,
            negative_prompt_embeds,
            guidance_scale,
            adjust_prediction,
            advance,
        )
    return Trajectory(
        latents=kept,
        timesteps=schedule.timesteps[:levels],
        num_inference_steps=schedule.num_inference_steps,
        strength=strength,
        prediction_type=schedule.prediction_type,
        schedule=schedule.fingerprint,
        model=network_identity(pipe.unet, cross_attention_kwargs),
        scaling_factor=pipe.vae.config.scaling_factor,
        guidance_scale=guidance_scale,
        prompts=prompts,
        frames=frames,
    )


def trajectory_from_image_latents(
    image_latents: Any, schedule: Schedule, levels: int, strength: float, scaling_factor: float
) -> Trajectory:
    """Read `image_latents` as [`DiffEditPipeline.invert`] returns them: noisiest first, the picture's own
    last.

    Args:
        image_latents: (batch, levels + 1, channels, height, width), or a list of such to join, or
            (batch * (levels + 1), channels, height, width).
    """
    parts = list(image_latents) if isinstance(image_latents, (list, tuple)) else [image_latents]
    if not parts or not all(isinstance(part, torch.Tensor) and part.is_floating_point() for part in parts):
        raise ValueError(
            "`image_latents` must be a floating-point tensor or a list of them, as `invert(...).latents` "
            f"gives, got {type(image_latents).__name__}."
        )
    for part in parts:
        check_dense("image_latents", part)
    if len({part.shape[1:] for part in parts}) > 1 or not parts[0].ndim:
        raise ValueError(
            "`image_latents` must hold tensors (batch, levels + 1, channels, height, width) of one size, got "
            f"{shortened([tuple(part.shape) for part in parts])}."
        )
    latents = torch.cat(parts).detach()
    if latents.ndim == 4 and latents.shape[0] % (levels + 1) == 0:
        latents = latents.unflatten(0, (-1, levels + 1))
    steps = schedule.num_inference_steps
    if latents.ndim != 5 or not levels + 1 <= latents.shape[1] <= steps + 1:
        hint = ""
        if latents.ndim == 5 and latents.shape[1] > steps + 1:
            hint = f" So many levels are of more than {steps} steps; call with the number that `invert` had."
        elif latents.ndim == 5:
            hint = (
                " Invert with an `inpaint_strength` that is as high as the call's. Latents of diffusers' own "
                "StableDiffusionDiffEditPipeline lack the picture's own one, the last; invert again with this pipeline."
            )
        raise ValueError(
            f"`image_latents` must have shape (batch, {levels + 1} to {steps + 1}, channels, height, width), noisiest "
            f"first and the picture's own latent last, for `inpaint_strength` {strength} of {steps} steps, got "
            f"{tuple(latents.shape)}.{hint}"
        )
    ordered = latents.flip(1).transpose(0, 1)[: levels + 1].float()
    return Trajectory(
        latents=ordered,
        timesteps=schedule.timesteps[:levels],
        num_inference_steps=schedule.num_inference_steps,
        strength=strength,
        prediction_type=schedule.prediction_type,
        schedule=schedule.fingerprint,
        scaling_factor=scaling_factor,
        prompts=None,
    )


def decode_edit(
    pipe: Any,
    schedule: Schedule,
    trajectory_latents: torch.Tensor | None,
    clean: torch.Tensor,
    prompt_embeds: torch.Tensor,
    negative_prompt_embeds: torch.Tensor | None,
    mask: EditMask,
    copies: int,
    guidance: EditGuidance,
    guidance_rescale: float,
    cross_attention_kwargs: dict[str, Any] | None,
    on_step: Callable[[int, int, dict[str, Any]], dict[str, Any]],
) -> torch.Tensor:
    """Decode every edit, `copies` times, neighbours in the batch.

    Args:
        trajectory_latents: (levels + 1, edits or 1, channels, height, width), or `None` where nothing is
            edited.
        clean: Level 0 of it, (edits or 1, channels, height, width).

    Returns:
        (edits * copies, channels, height, width).
    """
    edits = prompt_embeds.shape[0]
    if trajectory_latents is None:
        return clean.expand(edits, -1, -1, -1).repeat_interleave(copies, dim=0)
    walk = trajectory_latents.to(clean.device).expand(-1, edits, -1, -1, -1)
    negatives = negative_prompt_embeds
    with named_bar(pipe, "decode", trajectory_latents.shape[0] - 1) as progress_bar:

        def advance(step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
            changed = on_step(step, timestep, tensors)
            progress_bar.update()
            return changed

        return decode_latents(
            noise_predictor(pipe, cross_attention_kwargs),
            schedule,
            walk.repeat_interleave(copies, dim=1),
            prompt_embeds.repeat_interleave(copies, dim=0),
            mask.weights.repeat_interleave(copies, dim=0),
            None if negatives is None else negatives.repeat_interleave(copies, dim=0),
            [scale for scale in guidance.scales for _ in range(copies)],
            guidance_rescale,
            [stop for stop in guidance.stops for _ in range(copies)],
            advance,
            should_stop=lambda: pipe.interrupt,
        )


def decode_pixels(pipe: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents, (batch, channels, height, width), as float32 pixels in [0, 1].

    Raises:
        FloatingPointError: If the VAE gives NaN or infinite values.
    """
    shift = pipe.vae.config.get("shift_factor") or 0.0
    scaled = latents / pipe.vae.config.scaling_factor + shift
    decoded = pipe.vae.decode(scaled.to(pipe.vae.dtype), return_dict=False)[0].float()
    check_finite("the VAE's decoder", decoded)
    return (decoded / 2 + 0.5).clamp(0, 1)


def convert_pixels(
    pipe: Any, images: torch.Tensor, output_type: str
) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
    """Pixels, (batch, 3, height, width) in [0, 1], as `output_type` wants them."""
    if output_type == "pt":
        return images
    array = pipe.image_processor.pt_to_numpy(images)
    return array if output_type == "np" else pipe.image_processor.numpy_to_pil(array)
