"""DiffEdit for Qwen-Image as a diffusers pipeline: in one call, or in diffusers' three stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import QwenImageLoraLoaderMixin

from semantic_edit.editing.mask_shapes import MaskInput
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.components_qwen import QwenImageComponents
from semantic_edit.pipelines.diffedit_method import DiffEditMixin
from semantic_edit.pipelines.images import ImageInput
from semantic_edit.pipelines.outputs import DiffEditInversionPipelineOutput, DiffEditPipelineOutput


class QwenImageDiffEditPipeline(
    QwenImageComponents, DiffEditMixin, DiffusionPipeline, QwenImageLoraLoaderMixin
):
    """Edit an image where two prompts disagree about it, with a Qwen-Image model.

    Works like [`DiffEditPipeline`], which documents what threads and callbacks may do. The model is a rectified flow:
    the strengths mean levels of noise, the same as Stable Diffusion has at that fraction of its steps (see
    [`Schedule.levels`]), whatever the scheduler's shift is.

    Guidance is `true_cfg_scale`, away from the negative prompt, which is the empty prompt by default; Qwen-Image's own
    pipeline does not guide without a negative prompt. For LoRAs that distill the model to a few steps, pass
    `true_cfg_scale=1.0`, few steps and `encoding="noise"`, because such steps cannot be walked backwards.

    Args:
        scheduler, vae, text_encoder, tokenizer, transformer: As for [`QwenImagePipeline`].

    Source: DiffEdit, arXiv:2210.11427.
    """

    _UNGUIDED: ClassVar[Mapping[str, float]] = {"true_cfg_scale": 1.0}

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
        inpaint_strength: float = 0.8,
        num_inference_steps: int | None = None,
        true_cfg_scale: float | None = None,
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
        attention_kwargs: dict[str, Any] | None = None,
        max_sequence_length: int = 512,
        prompt_embeds: torch.Tensor | None = None,
        prompt_embeds_mask: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds_mask: torch.Tensor | None = None,
        source_prompt_embeds: torch.Tensor | None = None,
        source_prompt_embeds_mask: torch.Tensor | None = None,
        source_negative_prompt_embeds: torch.Tensor | None = None,
        source_negative_prompt_embeds_mask: torch.Tensor | None = None,
    ) -> DiffEditPipelineOutput | tuple[Any, ...]:
        """Edit `image` where `source_prompt` and `prompt` disagree about it.

        The arguments mean the same as for [`DiffEditPipeline`], apart from those below.

        Args:
            encoding: How the image is encoded. "inversion", the default, walks the flow backwards by predictor and
                corrector, at one evaluation of the transformer per step; "noise" adds the same noise at every level, at
                none; "flowedit" does not encode, but moves the image straight from one prompt to the other (FlowEdit,
                arXiv:2412.08629), within the mask, at two guided evaluations per step.
            inpaint_strength, mask_encode_strength: Levels of noise, in (0, 1]: the image is encoded, and compared, at
                the level that has the noise of Stable Diffusion at this fraction of its steps; 0.5 is sigma 0.62, 0.8
                is sigma 0.84, and 1 is pure noise.
            true_cfg_scale: The guidance scale, 4 by default; at 1 or below there is none. Each token of the picture
                keeps the norm of its conditional prediction. With `encoding="flowedit"`, of the target's prompt, 13.5
                by default; the source's is 3.5.
            negative_prompt, source_negative_prompt: What to guide away from; nothing but the template by default.
            attention_kwargs: For the attention processors; "scale" is the LoRA scale.
            max_sequence_length: Number of tokens that the transformer reads of a prompt in its template, up to 1024.
            prompt_embeds_mask, negative_prompt_embeds_mask, source_prompt_embeds_mask,
                source_negative_prompt_embeds_mask: (batch, tokens), 1 for the tokens of the embeddings of the same
                prompt and 0 for padding, as `encode_prompt` gives it; without it, all tokens count.

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
        true_cfg_scale: float = 4.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "np",
        attention_kwargs: dict[str, Any] | None = None,
        mask_threshold: float = 0.5,
        mask_batch_size: int = 10,
        preset: str = "default",
        height: int | None = None,
        width: int | None = None,
        max_sequence_length: int = 512,
        target_prompt_embeds: torch.Tensor | None = None,
        target_prompt_embeds_mask: torch.Tensor | None = None,
        target_negative_prompt_embeds: torch.Tensor | None = None,
        target_negative_prompt_embeds_mask: torch.Tensor | None = None,
        source_prompt_embeds: torch.Tensor | None = None,
        source_prompt_embeds_mask: torch.Tensor | None = None,
        source_negative_prompt_embeds: torch.Tensor | None = None,
        source_negative_prompt_embeds_mask: torch.Tensor | None = None,
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
        true_cfg_scale: float = 1.0,
        negative_prompt: str | list[str] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        decode_latents: bool = False,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        preset: str = "default",
        height: int | None = None,
        width: int | None = None,
        max_sequence_length: int = 512,
        prompt_embeds: torch.Tensor | None = None,
        prompt_embeds_mask: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds_mask: torch.Tensor | None = None,
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
