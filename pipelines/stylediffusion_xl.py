"""StyleDiffusion for Stable Diffusion XL: learn an image once, then restyle it with words at will."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import (
    FromSingleFileMixin,
    StableDiffusionXLLoraLoaderMixin,
    TextualInversionLoaderMixin,
)
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin

from semantic_edit.editing.mask_shapes import MaskInput
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines.components_xl import StableDiffusionXLComponents
from semantic_edit.pipelines.images import ImageInput
from semantic_edit.pipelines.outputs import StyleDiffusionPipelineOutput
from semantic_edit.pipelines.stylediffusion_method import StyleDiffusionMixin


class StableDiffusionXLStyleDiffusionPipeline(
    StableDiffusionXLComponents,
    StyleDiffusionMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Learn an image, then edit it with words, with a Stable Diffusion XL base model.

    Works like [`StyleDiffusionPipeline`], which documents what threads and callbacks may do. Both text encoders read
    the prompt; its words are found with the first tokenizer. Mapping networks learned with a Stable Diffusion 1.x or
    2.x model are refused here, and vice versa.

    Args:
        vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler: As for
            [`StableDiffusionXLPipeline`].
        image_encoder, feature_extractor: A CLIP vision tower and its preprocessing, which learning needs; the paper
            uses "openai/clip-vit-base-patch16".
        force_zeros_for_empty_prompt, add_watermarker: As for [`StableDiffusionXLDiffEditPipeline`].

    Source: StyleDiffusion, arXiv:2303.15649.
    """

    def learn_mapping(
        self,
        image: ImageInput,
        prompt: str | list[str],
        num_inference_steps: int = 20,
        guidance_scale: float = 7.5,
        negative_prompt: str | None = None,
        variant: str = "modulate",
        settings: LearningSettings | str = "short",
        attention_side: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        gradient_checkpointing: bool = False,
        mask_image: MaskInput | None = None,
        height: int | None = None,
        width: int | None = None,
        focus: bool | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] | None = None,
        target_size: tuple[int, int] | None = None,
    ) -> MappingNetwork | list[MappingNetwork]:
        """Learn what makes guided decoding under `prompt` reproduce an image.

        The arguments mean the same as for [`StyleDiffusionPipeline.learn_mapping`].

        Args:
            negative_prompt: `None` means no text at all, as in [`StableDiffusionXLDiffEditPipeline`].
            original_size, target_size, crops_coords_top_left: Sizes given to the model as conditions; see
                [`StableDiffusionXLDiffEditPipeline`].

        Returns:
            A [`MappingNetwork`], or a list of them if `image` or `prompt` is a list or a batch.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the UNet is
                first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.

        Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.2.
        """
        return self._learn(locals())

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        mapping_network: MappingNetwork,
        tau_v: float = 0.6,
        tau_c: float = 0.6,
        tau_s: float = 0.8,
        tau_u: float = 0.5,
        word_tau_c: Mapping[str, float] | None = None,
        edit_type: str | None = None,
        reweight: Mapping[str, float] | None = None,
        local_blend: str | Sequence[str] | None = None,
        local_blend_threshold: float = 0.3,
        self_attention_side: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | list[str] | None = None,
        mask_image: MaskInput | str | None = None,
        mask_threshold: float = 0.5,
        mask_grow: int = 0,
        mask_feather: float = 0.0,
        image: ImageInput | None = None,
        preserve_background: bool = False,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        output_attention_maps: bool = False,
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
        cross_attention_kwargs: dict[str, Any] | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] | None = None,
        target_size: tuple[int, int] | None = None,
    ) -> StyleDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit a learned image by P2Plus: one edit for each prompt, all run alongside a single run of the source.

        The arguments mean the same as for [`StyleDiffusionPipeline`].

        Args:
            original_size, target_size, crops_coords_top_left: Sizes given to the model as conditions. By default those
                with which the image was learned; others are refused.

        Returns:
            [`StyleDiffusionPipelineOutput`], or with `return_dict=False` a tuple of its fields.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the UNet is
                first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.

        Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.3.
        """
        return self._restyle(locals())
