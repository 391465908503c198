"""What the pipelines return."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput

from semantic_edit.editing.frames import Frame
from semantic_edit.editing.masking import MaskResult
from semantic_edit.editing.summaries import Summarised
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.locating import PromptContrast, whole_mask_of
from semantic_edit.pipelines.masks import EditMask, mask_images
from semantic_edit.pipelines.ranges import plain_numbers
from semantic_edit.pipelines.request import EditRequest


def as_tuple(output: BaseOutput) -> tuple[Any, ...]:
    """All fields of a result, in order, including those that are `None`."""
    return tuple(getattr(output, field.name) for field in fields(output))


class Redrawable:
    """A result whose masks were found, and can be drawn at another threshold without the model.

    contrast: How the prompts disagree; `None` if the caller passed a mask.
    """

    contrast: PromptContrast | None

    def masks_at(self, mask_threshold: float) -> DiffEditMaskOutput:
        """The masks that [`DiffEditMixin.locate`] would find at another threshold, with everything else as it was.

        Args:
            mask_threshold: As for a call, in (0, 1); higher values give smaller masks.

        Raises:
            ValueError: If it is out of range, or the masks were not found but given.
        """
        (threshold,) = plain_numbers(mask_threshold=mask_threshold)
        if self.contrast is None:
            raise ValueError("`masks_at` draws masks that were found, and these were given as `mask_image`.")
        return mask_output(self.contrast.request, self.contrast, *self.contrast.drawn(threshold))


@dataclass(repr=False)
class DiffEditPipelineOutput(Redrawable, Summarised, BaseOutput):
    """Result of [`DiffEditPipeline`]; with `return_dict=False` the same fields as a tuple, in this order.

    images: `batch` RGB images ("pil"), a float array (batch, height, width, 3) ("np") or a float tensor (batch, 3,
        height, width) ("pt"), both in [0, 1]; or float32 latents (batch, channels, height // 8, width // 8) ("latent").
        `batch` is edits times `num_images_per_prompt`.
    nsfw_content_detected: One flag per image, or `None` without a safety checker. Flagged images are black.
    mask: (edits, 1, height // 8, width // 8), float32: the weights with which latents were blended, each the mean of
        `pixel_mask`, with some room around it, over the latent's pixels; 1.0 where the edit applied fully, 0.0 where
        nothing was edited.
    pixel_mask: (edits, 1, height, width), float32: the mask itself, as drawn, grown and feathered. Passed as
        `mask_image`, it gives the same edit, at the same `guidance_stop`.
    soft_mask: Same shape as `mask`: the rescaled noise difference in [0, 1] to which the threshold was applied; `None`
        if the caller passed a mask.
    mask_confidence: (edits,) in [0, 1]: how cleanly each soft mask falls into two classes; `None` likewise.
    mask_coherence: (edits,) in [0, 1]: how uniformly the prompts differ inside the mask: near 1 if a colour or a
        material changes, low if a shape does; `None` likewise.
    trajectory: The inversion, for the next edit of the same image; `None` if none was needed because every mask was
        empty, or if the caller passed bare `image_latents`.
    frames: The area that the model worked on, one for each image or each edit; `None` if no pixels were given.
    contrast: How the prompts disagree, for `masks_at`; `None` if the caller passed a mask.
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
    contrast: PromptContrast | None = None


@dataclass(repr=False)
class DiffEditMaskOutput(Redrawable, Summarised, BaseOutput):
    """Result of [`DiffEditMixin.locate`]: where an edit would apply.

    masks: Black and white images of the image's own size, white where the edit applies, one for each edit.
    pixel_mask: (edits, 1, height, width) in [0, 1]: the same before it is cut at a half, with soft edges.
    soft_mask, mask_confidence, mask_coherence, frames, contrast: As in [`DiffEditPipelineOutput`].
    """

    masks: list[PIL.Image.Image]
    pixel_mask: torch.Tensor
    soft_mask: torch.Tensor | None = None
    mask_confidence: torch.Tensor | None = None
    mask_coherence: torch.Tensor | None = None
    frames: tuple[Frame, ...] | None = None
    contrast: PromptContrast | None = None


def mask_output(
    request: EditRequest, contrast: PromptContrast | None, found: MaskResult | None, mask: EditMask
) -> DiffEditMaskOutput:
    """What `locate` returns.

    Args:
        request: What was asked for, of the view that the model works on.
        contrast, found: How the prompts disagree, and what was found; `None` for a caller's own mask.
        mask: Where the edits apply.
    """
    whole = whole_mask_of(request, mask)
    return DiffEditMaskOutput(
        masks=mask_images(whole),
        pixel_mask=whole,
        soft_mask=None if found is None else found.soft_mask,
        mask_confidence=None if found is None else found.confidence,
        mask_coherence=None if found is None else found.coherence,
        frames=request.view.frames or None,
        contrast=contrast,
    )


@dataclass(repr=False)
class AttentionMapsOutput(Summarised, BaseOutput):
    """Result of [`DiffEditMixin.explain`]: where the model looks for each word.

    attention_maps: For each image, a heat map of each word of its prompt as a greyscale image of the image's own size,
        each with its maximum white.
    """

    attention_maps: list[dict[str, PIL.Image.Image]]


@dataclass(repr=False)
class DiffEditInversionPipelineOutput(Summarised, BaseOutput):
    """Result of [`DiffEditPipeline.invert`].

    latents: (batch, levels + 1, channels, height // 8, width // 8), float32, noisiest first as in diffusers; the last
        is the image's own latent, which diffusers leaves out.
    images: All latents decoded, `batch * (levels + 1)` of them, as PIL images, or as an array or a tensor with values
        in [0, 1]; `None` without `decode_latents`.
    trajectory: The same latents as an object that can be saved and that checks whether it fits the call it is used in.
    """

    latents: torch.Tensor
    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor | None = None
    trajectory: Trajectory | None = None


@dataclass(repr=False)
class StyleDiffusionPipelineOutput(Summarised, BaseOutput):
    """Result of [`StyleDiffusionPipeline`]; with `return_dict=False` the same fields as a tuple, in this order.

    images: One edit for each prompt, of the size of the `image` if that was given, otherwise of the size that was
        learned: RGB images ("pil"), a float array (prompts, height, width, 3) ("np") or a float tensor (prompts, 3,
        height, width) ("pt"), both in [0, 1]; or float32 latents (prompts, channels, height // 8, width // 8)
        ("latent").
    nsfw_content_detected: One flag per edit, or `None` without a safety checker. Flagged images are black.
    reconstruction: The learned image as the VAE shows it, since the source is put back on its inversion at every step;
        with a network of format version 1, which lacks the inversion, as what was learned reproduces it. In the form of
        `images`, a single image.
    blend_masks: (prompts, 1, height // 8, width // 8), float32: 1.0 where the last step let the edit through; `None`
        without `local_blend`.
    attention_maps: For the source prompt and then for each prompt, a heat map of each of its words as a greyscale
        image; `None` unless requested.
    frames: The part of the image that was learned, and so edited; a single frame.
    pixel_mask: (prompts, 1, height, width), float32 in [0, 1]: where each edit may be; `None` if nothing confines it.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    nsfw_content_detected: list[bool] | None = None
    reconstruction: list[PIL.Image.Image] | np.ndarray | torch.Tensor | None = None
    blend_masks: torch.Tensor | None = None
    attention_maps: list[dict[str, PIL.Image.Image]] | None = None
    frames: tuple[Frame, ...] | None = None
    pixel_mask: torch.Tensor | None = None
