"""DiffEdit for Stable Diffusion 3 as a diffusers pipeline: in one call, or in diffusers' three stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import FromSingleFileMixin, SD3LoraLoaderMixin

from semantic_edit.editing.mask_shapes import MaskInput
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.components_sd3 import StableDiffusion3Components
from semantic_edit.pipelines.diffedit_method import DiffEditMixin
from semantic_edit.pipelines.images import ImageInput
from semantic_edit.pipelines.outputs import DiffEditInversionPipelineOutput, DiffEditPipelineOutput


class StableDiffusion3DiffEditPipeline(
    StableDiffusion3Components, DiffEditMixin, DiffusionPipeline, SD3LoraLoaderMixin, FromSingleFileMixin
):
    """Edit an image where two prompts disagree about it, with a Stable Diffusion 3 or 3.5 model.

    Works like [`DiffEditPipeline`], which documents what threads and callbacks may do. The model is a rectified flow:
    the strengths mean levels of noise, the same as Stable Diffusion has at that fraction of its steps (see
    [`Schedule.levels`]), whatever the scheduler's shift is.

    Args:
        transformer, scheduler, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2, text_encoder_3, tokenizer_3,
            image_encoder, feature_extractor: As for [`StableDiffusion3Pipeline`]; the third text encoder may be `None`,
            and the last two are kept only for `from_pipe`.

    Source: DiffEdit, arXiv:2210.11427.
    """

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | None = None,
        prompt: str | list[str] | None = None,
        source_prompt: str | list[str] = "",
        mask_image: MaskInput | None = None,
        image_latents: torch.Tensor | list[torch.Tensor] | None = None,
        trajectory: Trajectory | None = None,
        encoding: str | None = None,
        tau_s: float = 0.0,
        shared_layers: tuple[str, ...] | list[str] | None = None,
        local_blend: str | list[str] | tuple[str, ...] | None = None,
        local_blend_threshold: float = 0.3,
        inpaint_strength: float = 0.8,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | list[str] | None = None,
        source_negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
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
        joint_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        max_sequence_length: int = 256,
        prompt_2: str | list[str] | None = None,
        prompt_3: str | list[str] | None = None,
        source_prompt_2: str | list[str] | None = None,
        source_prompt_3: str | list[str] | None = None,
        negative_prompt_2: str | list[str] | None = None,
        negative_prompt_3: str | list[str] | None = None,
        source_negative_prompt_2: str | list[str] | None = None,
        source_negative_prompt_3: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        source_prompt_embeds: torch.Tensor | None = None,
        source_negative_prompt_embeds: torch.Tensor | None = None,
        pooled_prompt_embeds: torch.Tensor | None = None,
        negative_pooled_prompt_embeds: torch.Tensor | None = None,
        source_pooled_prompt_embeds: torch.Tensor | None = None,
        source_negative_pooled_prompt_embeds: torch.Tensor | None = None,
    ) -> DiffEditPipelineOutput | tuple[Any, ...]:
        """Edit `image` where `source_prompt` and `prompt` disagree about it.

        The arguments mean the same as for [`DiffEditPipeline`], apart from those below. The usual guidance scale is 7.

        Args:
            encoding: How the image is encoded. "inversion", the default, walks the flow backwards by predictor and
                corrector, at one evaluation of the transformer per step; "noise" adds the same noise at every level, at
                none; "flowedit" does not encode, but moves the image straight from one prompt to the other (FlowEdit,
                arXiv:2412.08629), within the mask, at two guided evaluations per step.
            tau_s: Fraction of the steps of decoding, from the noisy end and rounded up, in which the edit takes the
                image's own queries and keys for its picture tokens, and so keeps its structure (Prompt-to-Prompt's
                self-attention swap in joint attention, arXiv:2508.07519); 0 is never. It costs a second row for each
                edit. With a white `mask_image` and `preserve_background=False` this is Prompt-to-Prompt by itself.
            shared_layers: Module paths of the attention layers that do so, such as "transformer_blocks.0.attn"; by
                default all.
            local_blend: Words of the two prompts; within the mask, only the regions that attend to them may change
                (Prompt-to-Prompt's LocalBlend, read from the text's columns of joint attention). It costs a second row
                for each edit.
            local_blend_threshold: Fraction of a word's highest attention from which a position belongs to its region,
                in (0, 1).
            inpaint_strength, mask_encode_strength: Levels of noise, in (0, 1]: the image is encoded, and compared, at
                the level that has the noise of Stable Diffusion at this fraction of its steps; 0.5 is sigma 0.62, 0.8
                is sigma 0.84, and 1 is pure noise.
            guidance_scale: With `encoding="flowedit"`, of the target's prompt, 13.5 by default; the source's is 3.5.
            joint_attention_kwargs: For the attention processors; "scale" is the LoRA scale.
            clip_skip: Number of the CLIP text encoders' layers to skip.
            max_sequence_length: Number of tokens that the third text encoder reads, up to 512.
            prompt_2, prompt_3, source_prompt_2, source_prompt_3, negative_prompt_2, negative_prompt_3,
                source_negative_prompt_2, source_negative_prompt_3: Separate texts for the second and the third text
                encoder; by default they read the same text as the first. Words are looked up in the first one's text.
            pooled_prompt_embeds, negative_pooled_prompt_embeds, source_pooled_prompt_embeds,
                source_negative_pooled_prompt_embeds: (batch, width), required together with the embeddings of the same
                prompt.

        Returns:
            [`DiffEditPipelineOutput`], or with `return_dict=False` a tuple of its fields.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the transformer
                is first evaluated.
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
        source_prompt: str | list[str] | None = None,
        source_negative_prompt: str | list[str] | None = None,
        num_maps_per_mask: int | None = None,
        mask_encode_strength: float = 0.5,
        mask_thresholding_ratio: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 7.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "np",
        joint_attention_kwargs: dict[str, Any] | None = None,
        mask_threshold: float = 0.5,
        mask_batch_size: int = 10,
        clip_skip: int | None = None,
        preset: str = "default",
        height: int | None = None,
        width: int | None = None,
        max_sequence_length: int = 256,
        target_prompt_2: str | list[str] | None = None,
        target_prompt_3: str | list[str] | None = None,
        target_negative_prompt_2: str | list[str] | None = None,
        target_negative_prompt_3: str | list[str] | None = None,
        source_prompt_2: str | list[str] | None = None,
        source_prompt_3: str | list[str] | None = None,
        source_negative_prompt_2: str | list[str] | None = None,
        source_negative_prompt_3: str | list[str] | None = None,
        target_prompt_embeds: torch.Tensor | None = None,
        target_negative_prompt_embeds: torch.Tensor | None = None,
        source_prompt_embeds: torch.Tensor | None = None,
        source_negative_prompt_embeds: torch.Tensor | None = None,
        target_pooled_prompt_embeds: torch.Tensor | None = None,
        target_negative_pooled_prompt_embeds: torch.Tensor | None = None,
        source_pooled_prompt_embeds: torch.Tensor | None = None,
        source_negative_pooled_prompt_embeds: torch.Tensor | None = None,
    ) -> np.ndarray | list[PIL.Image.Image] | torch.Tensor:
        """Find where two prompts disagree about an image: the first of diffusers' three stages.

        See [`DiffEditPipeline.generate_mask`], and the call of this pipeline for the arguments that only this family
        has.

        Returns:
            1 where the edit is to apply, 0 elsewhere: an integer array (batch, height // 8, width // 8) for "np", black
            and white images of that size for "pil", or a float tensor (batch, 1, height // 8, width // 8) for "pt".

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the transformer
                is first evaluated.
            FloatingPointError: If values become NaN or infinite.
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
        generator: torch.Generator | list[torch.Generator] | None = None,
        decode_latents: bool = False,
        output_type: str = "pil",
        return_dict: bool = True,
        joint_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        preset: str = "default",
        height: int | None = None,
        width: int | None = None,
        max_sequence_length: int = 256,
        prompt_2: str | list[str] | None = None,
        prompt_3: str | list[str] | None = None,
        negative_prompt_2: str | list[str] | None = None,
        negative_prompt_3: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        pooled_prompt_embeds: torch.Tensor | None = None,
        negative_pooled_prompt_embeds: torch.Tensor | None = None,
    ) -> DiffEditInversionPipelineOutput | tuple[Any, ...]:
        """Encode an image into noise: the second of diffusers' three stages.

        See [`DiffEditPipeline.invert`], and the call of this pipeline for the arguments that only this family has.

        Returns:
            [`DiffEditInversionPipelineOutput`], or with `return_dict=False` its `latents` and `images`.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the transformer
                is first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.
        """
        return self._invert(locals())
