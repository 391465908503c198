"""What the pipelines return."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput

from semantic_edit.editing.frames import Frame
from semantic_edit.editing.summaries import Summarised
from semantic_edit.editing.trajectory import Trajectory


def as_tuple(output: BaseOutput) -> tuple[Any, ...]:
    """All fields of a result in their order, those without a value too."""
    return tuple(getattr(output, field.name) for field in fields(output))


@dataclass(repr=False)
class DiffEditPipelineOutput(Summarised, BaseOutput):
    """Result of [`DiffEditPipeline`]; with `return_dict=False` the same fields as a tuple, in this order.

    images: `batch` RGB pictures ("pil"), a float array (batch, height, width, 3) ("np") or a float tensor
        (batch, 3, height, width) ("pt"), both in [0, 1]; or float32 latents (batch, channels, height // 8,
        width // 8) ("latent"). `batch` is edits times `num_images_per_prompt`.
    nsfw_content_detected: One flag per picture, or `None` without a safety checker. Flagged pictures are
        black.
    mask: (edits, 1, height // 8, width // 8), float32: the weights with which latents were blended, the mean over
        each one's pixels of `pixel_mask` with the room around it; 1.0 where the edit applied, 0.0 where nothing did.
    pixel_mask: (edits, 1, height, width), float32: the mask itself, drawn, grown and feathered. As `mask_image` it
        gives the same edit, at the same `guidance_stop`.
    soft_mask: The shape of `mask`, the rescaled noise difference in [0, 1] that the threshold cut; `None` with a mask
        of the caller's own.
    mask_confidence: (edits,) in [0, 1], how cleanly each soft mask falls into two classes; `None` likewise.
    mask_coherence: (edits,) in [0, 1], how alike the prompts differ everywhere inside the mask: near 1 where a colour
        or a material changes, low where a shape does; `None` likewise.
    trajectory: The inversion, for the next edit of the same picture; `None` if none was needed because every
        mask was empty, or the caller gave bare `image_latents`.
    frames: What the model worked at, one for each picture or each edit; `None` where no pixels were known.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    nsfw_content_detected: list[bool] | None = None
    mask: torch.Tensor | None = None
    pixel_mask: torch.Tensor | None = None
    soft_mask: torch.Tensor | None = None
    mask_confidence: torch.Tensor | None = None
    mask_coherence: torch.Tensor | None = None
    trajectory: Trajectory | None = None
    frames: tuple[Frame, ...] | None = None


@dataclass(repr=False)
class DiffEditInversionPipelineOutput(Summarised, BaseOutput):
    """Result of [`DiffEditPipeline.invert`].

    latents: (batch, levels + 1, channels, height // 8, width // 8), float32, noisiest first as in diffusers,
        and with the picture's own latent, which diffusers leaves out, at the end.
    images: All latents decoded, `batch * (levels + 1)` of them, as PIL pictures, an array or a tensor with values
        in [0, 1]; `None` unless `decode_latents`.
    trajectory: The same latents as a value that can be saved and checks what it is used for.
    """

    latents: torch.Tensor
    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor | None = None
    trajectory: Trajectory | None = None


@dataclass(repr=False)
class StyleDiffusionPipelineOutput(Summarised, BaseOutput):
    """Result of [`StyleDiffusionPipeline`]; with `return_dict=False` the same fields as a tuple, in this order.

    images: One edit for each prompt, of the size of the picture if that was given, else of what was learned: RGB
        pictures ("pil"), a float array (prompts, height, width, 3) ("np") or a float
        tensor (prompts, 3, height, width) ("pt"), both in [0, 1]; or float32 latents (prompts, channels,
        height // 8, width // 8) ("latent").
    nsfw_content_detected: One flag per edit, or `None` without a safety checker. Flagged pictures are black.
    reconstruction: The learned picture as the mapping network gives it back, in the form of `images`, one picture.
    blend_masks: (prompts, 1, height // 8, width // 8), float32: 1.0 where the last step let the edit through; `None`
        without `local_blend`.
    attention_maps: For the source prompt and then each prompt a heat map of each of its words, grey pictures; `None`
        unless asked for.
    frames: What of the picture was learned, and so edited; one.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    nsfw_content_detected: list[bool] | None = None
    reconstruction: list[PIL.Image.Image] | np.ndarray | torch.Tensor | None = None
    blend_masks: torch.Tensor | None = None
    attention_maps: list[dict[str, PIL.Image.Image]] | None = None
    frames: tuple[Frame, ...] | None = None
