"""DiffEdit for Stable Diffusion XL as a diffusers pipeline: in one call, or in diffusers' three stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import (
    FromSingleFileMixin,
    StableDiffusionXLLoraLoaderMixin,
    TextualInversionLoaderMixin,
)
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin

from semantic_edit.editing.mask_shapes import MaskInput
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.components_xl import StableDiffusionXLComponents
from semantic_edit.pipelines.diffedit_method import DiffEditMixin
from semantic_edit.pipelines.images import ImageInput
from semantic_edit.pipelines.outputs import DiffEditInversionPipelineOutput, DiffEditPipelineOutput


class StableDiffusionXLDiffEditPipeline(
    StableDiffusionXLComponents,
    DiffEditMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Edit an image where two prompts disagree about it, with a Stable Diffusion XL base model.

    Works like [`DiffEditPipeline`], which documents what the scheduler, threads and callbacks may do; edits carry no
    watermark. The refiner, EDM-style schedulers, and models distilled to few steps are refused.

    Args:
        vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler, image_encoder, feature_extractor: As
            for [`StableDiffusionXLPipeline`]; the last two are kept only for `from_pipe`.
        force_zeros_for_empty_prompt: Whether a prompt that is not given becomes zeros, as in the base model's training,
            rather than the empty text. Also used to encode the image.
        add_watermarker: Kept only for `from_pipe`.

    Source: DiffEdit, arXiv:2210.11427.
    """

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | None = None,
        prompt: str | list[str] | None = None,
        source_prompt: str | list[str] | None = None,
        mask_image: MaskInput | None = None,
        image_latents: torch.Tensor | list[torch.Tensor] | None = None,
        trajectory: Trajectory | None = None,
        inpaint_strength: float = 0.8,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | list[str] | None = None,
        source_negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        source_prompt_embeds: torch.Tensor | None = None,
        source_negative_prompt_embeds: torch.Tensor | None = None,
        num_maps_per_mask: int | None = None,
        mask_encode_strength: float = 0.5,
        mask_thresholding_ratio: float | None = None,
        mask_threshold: float = 0.5,
        mask_batch_size: int = 10,
        mask_refine: bool | None = None,
        mask_grow: int | None = None,
        mask_feather: float | None = None,
        preserve_background: bool | None = None,
        guidance_rescale: float = 0.0,
        guidance_stop: float | None = None,
        preset: str = "default",
        height: int | None = None,
        width: int | None = None,
        focus: bool | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
        callback: Callable[[int, float, torch.Tensor], None] | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        prompt_2: str | list[str] | None = None,
        source_prompt_2: str | list[str] | None = None,
        negative_prompt_2: str | list[str] | None = None,
        source_negative_prompt_2: str | list[str] | None = None,
        pooled_prompt_embeds: torch.Tensor | None = None,
        negative_pooled_prompt_embeds: torch.Tensor | None = None,
        source_pooled_prompt_embeds: torch.Tensor | None = None,
        source_negative_pooled_prompt_embeds: torch.Tensor | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] | None = None,
        target_size: tuple[int, int] | None = None,
        encoding: str | None = None,
    ) -> DiffEditPipelineOutput | tuple[Any, ...]:
        """Edit `image` where `source_prompt` and `prompt` disagree about it.

        The arguments mean the same as for [`DiffEditPipeline`]. A prompt of `None` means no text at all, which becomes
        zeros in the base model, whereas "" is encoded like any other text. Negative prompts and the source prompt
        default to `None`, and the inversion always uses `None`. The usual guidance scale is 5.

        Args:
            prompt_2, negative_prompt_2, source_prompt_2, source_negative_prompt_2: Separate texts for the second text
                encoder; by default it reads the same text as the first. Words are looked up in the first encoder's
                text.
            pooled_prompt_embeds, negative_pooled_prompt_embeds, source_pooled_prompt_embeds,
                source_negative_pooled_prompt_embeds: (batch, width), required together with the embeddings of the same
                prompt.
            original_size, target_size: (height, width) in pixels, given to the model as conditions; by default those
                that the trajectory was made with, or without one the size that the model works at.
            crops_coords_top_left: (top, left) in pixels, likewise; by default the trajectory's, or (0, 0).

        Returns:
            [`DiffEditPipelineOutput`], or with `return_dict=False` a tuple of its fields.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the UNet is
                first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.

        Source: DiffEdit, arXiv:2210.11427, Sec. 3.2.
        """
        return self._edit(locals())

    @torch.no_grad()
    def generate_mask(
        self,
        image: ImageInput | None = None,
        target_prompt: str | list[str] | None = None,
        target_negative_prompt: str | list[str] | None = None,
        target_prompt_embeds: torch.Tensor | None = None,
        target_negative_prompt_embeds: torch.Tensor | None = None,
        source_prompt: str | list[str] | None = None,
        source_negative_prompt: str | list[str] | None = None,
        source_prompt_embeds: torch.Tensor | None = None,
        source_negative_prompt_embeds: torch.Tensor | None = None,
        num_maps_per_mask: int | None = None,
        mask_encode_strength: float = 0.5,
        mask_thresholding_ratio: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 7.5,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "np",
        cross_attention_kwargs: dict[str, Any] | None = None,
        mask_threshold: float = 0.5,
        mask_batch_size: int = 10,
        clip_skip: int | None = None,
        preset: str = "default",
        height: int | None = None,
        width: int | None = None,
        target_prompt_2: str | list[str] | None = None,
        target_negative_prompt_2: str | list[str] | None = None,
        source_prompt_2: str | list[str] | None = None,
        source_negative_prompt_2: str | list[str] | None = None,
        target_pooled_prompt_embeds: torch.Tensor | None = None,
        target_negative_pooled_prompt_embeds: torch.Tensor | None = None,
        source_pooled_prompt_embeds: torch.Tensor | None = None,
        source_negative_pooled_prompt_embeds: torch.Tensor | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] | None = None,
        target_size: tuple[int, int] | None = None,
    ) -> np.ndarray | list[PIL.Image.Image] | torch.Tensor:
        """Find where two prompts disagree about an image: the first of diffusers' three stages.

        See [`DiffEditPipeline.generate_mask`], and the call of this pipeline for the arguments that only SDXL has.

        Returns:
            1 where the edit is to apply, 0 elsewhere: an integer array (batch, height // 8, width // 8) for "np", black
            and white images of that size for "pil", or a float tensor (batch, 1, height // 8, width // 8) for "pt".

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the UNet is
                first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.
        """
        return self._generate_mask(locals())

    @torch.no_grad()
    def invert(
        self,
        prompt: str | list[str] | None = None,
        image: ImageInput | None = None,
        num_inference_steps: int | None = None,
        inpaint_strength: float = 0.8,
        guidance_scale: float = 1.0,
        negative_prompt: str | list[str] | None = None,
        generator: torch.Generator | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        decode_latents: bool = False,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[int, float, torch.Tensor], None] | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        lambda_auto_corr: float = 20.0,
        lambda_kl: float = 20.0,
        num_reg_steps: int = 0,
        num_auto_corr_rolls: int = 5,
        clip_skip: int | None = None,
        preset: str = "default",
        height: int | None = None,
        width: int | None = None,
        prompt_2: str | list[str] | None = None,
        negative_prompt_2: str | list[str] | None = None,
        pooled_prompt_embeds: torch.Tensor | None = None,
        negative_pooled_prompt_embeds: torch.Tensor | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] | None = None,
        target_size: tuple[int, int] | None = None,
    ) -> DiffEditInversionPipelineOutput | tuple[Any, ...]:
        """Encode an image into noise: the second of diffusers' three stages.

        See [`DiffEditPipeline.invert`], and the call of this pipeline for the arguments that only SDXL has.

        Returns:
            [`DiffEditInversionPipelineOutput`], or with `return_dict=False` its `latents` and `images`.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the UNet is
                first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.
        """
        return self._invert(locals())
