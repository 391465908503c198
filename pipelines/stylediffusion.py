"""StyleDiffusion for Stable Diffusion 1.x and 2.x: learn a picture once, restyle it with words as often as you like."""

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
from semantic_edit.pipelines.outputs import StyleDiffusionPipelineOutput
from semantic_edit.pipelines.pictures import PictureInput
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
    """Learn a picture, then edit it with words, with a Stable Diffusion 1.x or 2.x model.

    `learn_mapping` gives a [`MappingNetwork`], which holds all that an edit needs; calling the pipeline with it and a
    prompt edits. The scheduler is only read, as by [`DiffEditPipeline`]. IP-Adapters and other processors that do more
    than attention are refused; a compiled UNet runs uncompiled.

    Nothing of a call is kept on the pipeline, so threads may share one. While it runs, its processors are in the UNet's
    attention layers, for its own evaluations alone: another thread's edit or learning with the same UNet waits, and who
    else calls the UNet, also from a callback, gets what it always gives. What was there comes back in any case.
    Interrupting, offloading, scaling a LoRA and training the UNet are for one thread alone: they are the pipeline's or
    its models'.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder: As
            for [`StableDiffusionPipeline`]. Learning needs `image_encoder` and `feature_extractor`, a CLIP vision
            tower and its preprocessing; the paper's is "openai/clip-vit-base-patch16".
        requires_safety_checker: Whether to warn where there is no safety checker.

    Source: StyleDiffusion, arXiv:2303.15649.
    """

    def learn_mapping(
        self,
        image: PictureInput,
        prompt: str | list[str],
        num_inference_steps: int = 30,
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
        """Learn what makes guidance under `prompt` give a picture back.

        Several pictures of one size learn side by side, faster than one after the other, and each as if alone but
        for rounding.

        Args:
            image: The picture or pictures, of any size, all of one; see `read_pictures`.
            prompt: What it shows; a single word will do. One for all pictures, or one for each.
            num_inference_steps: Steps of the schedule; edits take as many.
            guidance_scale: Guidance of the edits to come.
            negative_prompt: What the picture is guided away from, for all pictures.
            variant: "modulate", as in the published code, or "direct", as in the paper's figure.
            settings: How long to learn: "short", "published", or [`LearningSettings`] of your own.
            attention_side: Side of the cross-attention maps that are kept close; by default the UNet's resolution
                nearest to the larger of 16 and a quarter of the latent's side.
            checkpoint: A folder; called again with it after an interruption, learning goes on where it was.
            gradient_checkpointing: Keep only what goes into each of the UNet's blocks and compute the rest twice: about
                half the memory, in 1.1 to 1.4 times the time.
            mask_image: Where the edits to come will be, for `focus`; see [`DiffEditPipeline`].
            height, width: The size in pixels that the picture is learned at; see [`DiffEditPipeline`].
            focus: Whether the mask's surroundings alone are learned, at the model's own size. `None` does so where they
                are a small part of the picture. The network remembers what it was learned from.
            cross_attention_kwargs: "scale" is the LoRA scale.

        Returns:
            A [`MappingNetwork`], or a list of them if `image` or `prompt` is a list or a batch. Its `report`, a
            [`LearningReport`] that is not saved with it, tells losses, evaluations and seconds of this learning; its
            config has PSNR and SSIM of the reconstruction against the VAE's.

        Raises:
            ValueError, TypeError: If anything does not fit, before the UNet is first evaluated.
            FloatingPointError: Naming the stage and the step that gave NaN or infinite values.

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
        mask_image: MaskInput | None = None,
        mask_grow: int = 0,
        mask_feather: float = 0.0,
        image: PictureInput | None = None,
        preserve_background: bool = False,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        output_attention_maps: bool = False,
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> StyleDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit a learned picture, by P2Plus: one edit for each prompt, all beside one run of the source.

        Each tau is the fraction of the steps, from the noisy end, for which an edit keeps something of the source;
        less changes more. The authors also recommend .5/.6/.6/0 for v/c/s/u.

        Args:
            prompt: What the edited picture shows, or several such prompts. Words that it shares with the picture's own
                prompt keep what they look at.
            mapping_network: From `learn_mapping`, or `load_mapping_network`.
            tau_v: Steps with the learned value embeddings; with 0 the picture's own look is left.
            tau_c: Steps with the source's cross-attention maps.
            tau_s: Steps with its self-attention maps, conditional branch.
            tau_u: The same in the unconditional branch.
            word_tau_c: Words of the prompts with a `tau_c` of their own.
            edit_type: "replace" for prompts with as many words, "refine" for added words; chosen by the numbers of
                words where not given.
            reweight: Words of the prompts with a factor for their attention: 2 shows more of it, 0 none.
            local_blend: Words, of the source's prompt or the new ones, whose regions alone may change.
            local_blend_threshold: Part of a region's highest attention that belongs to it, in (0, 1).
            self_attention_side: Self-attention maps of at most so many positions a side are kept; half the latent's
                where not given.
            num_inference_steps: Only the number that was learned can be edited with; each step has its own network.
            guidance_scale: Of the edits; the learned one where not given.
            negative_prompt: Of the edits; the learned one where not given.
            mask_image: Confines the edits: white may change; any size in the picture's shape, soft values allowed; one
                for all edits or one each. [`DiffEditPipeline`] finds such masks.
            mask_grow, mask_feather: Pixels, as the model sees them, to widen the mask by, and standard deviation of its
                blur.
            image: The picture, over which the edits are laid, so that they come back at its size. Without it they have
                the size that was learned.
            preserve_background: Keep `image`'s own pixels outside the mask, bit by bit.
            generator: Accepted as everywhere in diffusers; nothing here is drawn.
            output_type: "pil", "np", "pt" or "latent".
            output_attention_maps: Whether to return a heat map for each word.
            return_dict: Whether to return a [`StyleDiffusionPipelineOutput`] instead of a tuple of its fields.
            callback_on_step_end: `(pipe, step, timestep, tensors) -> dict` after each step; what it returns under a
                tensor's name is used from then on, and `None` for `negative_prompt_embeds` ends guidance. A
                `pipe._guidance_scale` that it sets is the edits' from then on. Row 0 is the source.
            callback_on_step_end_tensor_inputs: Which of `latents`, `prompt_embeds` and `negative_prompt_embeds` the
                callback gets.
            cross_attention_kwargs: "scale" is the LoRA scale.

        Returns:
            [`StyleDiffusionPipelineOutput`], or with `return_dict=False` a tuple of its fields.

        Raises:
            ValueError, TypeError: If anything does not fit, before the UNet is first evaluated.
            FloatingPointError: Naming the stage and the step that gave NaN or infinite values.

        Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.3.
        """
        return self._restyle(locals())
