"""StyleDiffusion for Stable Diffusion 1.x and 2.x: learn an image once, then restyle it with words at will."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import (
    FromSingleFileMixin,
    StableDiffusionLoraLoaderMixin,
    TextualInversionLoaderMixin,
)
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin

from semantic_edit.editing.mask_shapes import MaskInput
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines.components_sd import StableDiffusionComponents
from semantic_edit.pipelines.images import ImageInput
from semantic_edit.pipelines.outputs import StyleDiffusionPipelineOutput
from semantic_edit.pipelines.stylediffusion_method import StyleDiffusionMixin


class StyleDiffusionPipeline(
    StableDiffusionComponents,
    StyleDiffusionMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Learn an image, then edit it with words, with a Stable Diffusion 1.x or 2.x model.

    `learn_mapping` returns a [`MappingNetwork`], which holds everything that an edit needs; call the pipeline with it
    and a prompt to edit. The scheduler is only read, as by [`DiffEditPipeline`]. IP-Adapters and other processors that
    do more than attention are refused; a compiled UNet runs uncompiled.

    A call keeps no state on the pipeline, so threads may share one. While a call runs, the UNet's attention layers hold
    its processors, which act only in its own evaluations: edits or learning in other threads with the same UNet wait,
    and any other caller of the UNet, even a callback, gets the usual results. The original processors are always
    restored. Only one thread may interrupt, offload, scale a LoRA or train the UNet, because these act on the whole
    pipeline or its models.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder: As for
            [`StableDiffusionPipeline`]. Learning needs `image_encoder` and `feature_extractor`, a CLIP vision tower and
            its preprocessing; the paper uses "openai/clip-vit-base-patch16".
        requires_safety_checker: Whether to warn if there is no safety checker.

    Source: StyleDiffusion, arXiv:2303.15649.
    """

    def learn_mapping(
        self,
        image: ImageInput,
        prompt: str | list[str],
        num_inference_steps: int = 20,
        guidance_scale: float = 7.5,
        negative_prompt: str = "",
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
    ) -> MappingNetwork | list[MappingNetwork]:
        """Learn what makes guided decoding under `prompt` reproduce an image.

        Several images of one size are learned side by side, which is faster than one after the other; apart from
        rounding, each is learned as if it were alone.

        Args:
            image: One or more images, of any size but all of the same; see `read_images`.
            prompt: What the image shows; a single word will do. One for all images, or one for each.
            num_inference_steps: Number of steps of the schedule; edits take as many. The paper takes 30.
            guidance_scale: The guidance scale of later edits.
            negative_prompt: What to steer away from, for all images.
            variant: "modulate", as in the published code, or "direct", as in the paper's figure.
            settings: How long to learn: "none", "short", "long", "published", or your own [`LearningSettings`].
            attention_side: Side of the cross-attention maps that are kept close to the original ones; by default the
                UNet's resolution nearest to the larger of 16 and a quarter of the latent's side.
            checkpoint: A folder; a call with the same folder after an interruption continues where learning stopped.
            gradient_checkpointing: Store only the inputs of the UNet's blocks and compute everything else twice: about
                half the memory, in 1.1 to 1.4 times the time.
            mask_image: Where later edits will be, for `focus`; see [`DiffEditPipeline`].
            height, width: The size in pixels at which the image is learned; see [`DiffEditPipeline`].
            focus: Whether to learn only the mask's surroundings, at the model's native size. `None` does so if they are
                a small part of the image. The network remembers what it was learned from.
            cross_attention_kwargs: "scale" is the LoRA scale.

        Returns:
            A [`MappingNetwork`], or a list of them if `image` or `prompt` is a list or a batch. Its `report`, a
            [`LearningReport`] that is not saved with it, has the losses, evaluations and seconds of this learning; its
            config has PSNR and SSIM of the reconstruction, measured against the VAE's reconstruction.

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
    ) -> StyleDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit a learned image by P2Plus: one edit for each prompt, all run alongside a single run of the source.

        Each tau is the fraction of the steps, counted from the noisy end, during which an edit keeps something of the
        source; lower values change more. The authors also recommend .5/.6/.6/0 for v/c/s/u.

        Args:
            prompt: What the edited image shows; one or more prompts. Words shared with the image's own prompt keep
                attending to the same places.
            mapping_network: From `learn_mapping` or `load_mapping_network`.
            tau_v: Steps with the learned value embeddings; at 0 the image's own look is dropped.
            tau_c: Steps with the source's cross-attention maps.
            tau_s: Steps with the source's self-attention maps, in the conditional branch.
            tau_u: The same in the unconditional branch.
            word_tau_c: Individual `tau_c` values, by word of the prompts.
            edit_type: "replace" for prompts with the same number of words, "refine" for added words; by default chosen
                by the numbers of words.
            reweight: Factors for the attention of words of the prompts: 2 shows more of a word, 0 none of it.
            local_blend: Words of the source prompt or the new prompts; only their regions may change.
            local_blend_threshold: Fraction of a word's highest attention from which a position belongs to its region,
                in (0, 1).
            self_attention_side: Self-attention maps are swapped only in layers with at most this many positions per
                side; by default half the latent's side.
            num_inference_steps: Must be the number that was learned, since each step has its own network.
            guidance_scale: Of the edits; by default the learned one.
            negative_prompt: Of the edits; by default the learned one.
            mask_image: Confines the edits: white may change. Any size with the image's aspect ratio; soft values are
                allowed; one for all edits or one for each. "auto" finds one for each, as [`DiffEditPipeline`] does, at
                ten more evaluations per prompt: for edits of a thing, not of the whole picture's style.
            mask_threshold: Where "auto" cuts the rescaled difference of the prompts, in (0, 1); higher values give
                smaller masks.
            mask_grow, mask_feather: Pixels, as the model sees them, by which to widen the mask, and the standard
                deviation of its blur.
            image: The original image, over which the edits are laid, so that they are returned at its size. Without it
                they have the size that was learned.
            preserve_background: Keep the pixels of `image` outside the mask, bit by bit.
            generator: Draws the noise with which `mask_image="auto"` looks for the mask, by default the same in every
                call; nothing else here is random.
            output_type: "pil", "np", "pt" or "latent".
            output_attention_maps: Whether to return a heat map for each word.
            return_dict: Whether to return a [`StyleDiffusionPipelineOutput`] instead of a tuple of its fields.
            callback_on_step_end: `(pipe, step, timestep, tensors) -> dict` after each step; whatever it returns under a
                tensor's name is used from then on, and `None` for `negative_prompt_embeds` ends guidance. A
                `pipe._guidance_scale` that it sets applies to the edits from then on. Row 0 is the source.
            callback_on_step_end_tensor_inputs: Which of `latents`, `prompt_embeds` and `negative_prompt_embeds` the
                callback receives.
            cross_attention_kwargs: "scale" is the LoRA scale.

        Returns:
            [`StyleDiffusionPipelineOutput`], or with `return_dict=False` a tuple of its fields.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the UNet is
                first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.

        Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.3.
        """
        return self._restyle(locals())
