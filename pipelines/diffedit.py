"""DiffEdit for Stable Diffusion 1.x and 2.x as a diffusers pipeline: in one call, or in diffusers' three stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import (
    FromSingleFileMixin,
    StableDiffusionLoraLoaderMixin,
    TextualInversionLoaderMixin,
)
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin

from semantic_edit.editing.mask_shapes import MaskInput
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.components_sd import StableDiffusionComponents
from semantic_edit.pipelines.diffedit_method import DiffEditMixin
from semantic_edit.pipelines.outputs import DiffEditInversionPipelineOutput, DiffEditPipelineOutput
from semantic_edit.pipelines.pictures import PictureInput


class DiffEditPipeline(
    StableDiffusionComponents,
    DiffEditMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Edit a picture where two prompts disagree about it, with a Stable Diffusion 1.x or 2.x model.

    The scheduler is only read: every call derives its own DDIM schedule from the scheduler's config, as
    `DDIMScheduler.from_config` would, whichever deterministic sampler it is; `steps_offset` is 1 as in every Stable
    Diffusion pipeline, unless another scheduler is set later. IP-Adapters are refused.

    Nothing of a call is kept on the pipeline: `guidance_scale`, `num_timesteps` and the like can be read in a call's
    callback alone, in its thread. No network is changed either, so threads may share both; one at a time encodes
    prompts with a tokenizer. Interrupting, offloading and scaling a LoRA are for one thread alone: they are the
    pipeline's or its models'.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder: As
            for [`StableDiffusionPipeline`]; `image_encoder` is kept only for `from_pipe`.
        requires_safety_checker: Whether to warn where there is no safety checker.

    Source: DiffEdit, arXiv:2210.11427.
    """

    @torch.no_grad()
    def __call__(
        self,
        image: PictureInput | None = None,
        prompt: str | list[str] | None = None,
        source_prompt: str | list[str] | None = "",
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
        callback: Callable[[int, int, torch.Tensor], None] | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
    ) -> DiffEditPipelineOutput | tuple[Any, ...]:
        """Edit `image` where `source_prompt` and `prompt` disagree about it.

        A `preset` gives the settings that are left out. "default" is the best that was measured on still lifes: 20
        steps, 5 maps, a mask that follows the picture's edges and knows a colour edit from an object edit, guidance
        for colour edits in the noisier half of the steps alone and for object edits away from the source prompt, and
        the picture's own pixels outside the mask and where an object edit looks the same.
        "paper" is the paper's: 50 steps, 10 maps, the bare mask, guidance in all steps, and the whole picture
        through the autoencoder.

        Every argument that there is one of for each edit (pictures, prompts, masks, trajectories) may also be
        given once for all edits of the batch. No edit's result depends on its neighbours beyond rounding.

        Args:
            image: The picture or pictures, of any size, all of one: PIL, arrays (height, width, 3) or tensors (3,
                height, width) with floats in [0, 1]; see `read_pictures`. May be left out where a `trajectory` or
                `image_latents` hold the picture.
            prompt: What the edited picture shows.
            source_prompt: What the picture shows; "" where there is no caption.
            mask_image: A mask of your own instead of a found one: white (1.0) is edited; any size in the picture's
                shape, soft values allowed; see `mask_to_tensor`.
            image_latents: Latents from `invert`, noisiest first.
            trajectory: From an earlier edit or `invert`: saves the inversion. May reach further than this
                call.
            inpaint_strength: The fraction of the steps to encode through, in (0, 1]; the paper's encoding
                ratio. 0.8 of 50 steps is 40. More allows larger changes.
            num_inference_steps: Steps of the whole schedule; 20 or, in the paper, 50.
            guidance_scale: Classifier-free guidance while decoding; above 1 it guides. By default 7.5 away from the
                negative prompt, and in the default preset, for edits that are found to change an object and without a
                negative prompt, 2.5 away from the source prompt.
            negative_prompt: What to guide away from.
            source_negative_prompt: The same for the source side of the mask; `negative_prompt` by default.
                Finding a mask costs twice as much where the two differ.
            num_images_per_prompt: Copies of each edit, which differ only if a callback makes them.
            eta: Only 0 can be inverted.
            generator: Noise for the mask. One gives each picture the same noises; a list holds one per edit.
            latents: Ignored, as in diffusers: decoding starts from the inverted picture.
            prompt_embeds, negative_prompt_embeds, source_prompt_embeds, source_negative_prompt_embeds:
                (batch, tokens, width) instead of the texts.
            num_maps_per_mask: Noises over which the mask is averaged; 5 or, in the paper, 10.
            mask_encode_strength: Noise at which prompts are compared, a fraction of the steps in (0, 1].
            mask_thresholding_ratio: Clamps the noise difference at that multiple of its mean (diffusers has
                3.0); `None` adapts to each picture's map, by 0.8 of Otsu's cut.
            mask_threshold: Cut on the rescaled difference, in (0, 1); higher gives a smaller mask.
            mask_batch_size: Samples per evaluation of the UNet while finding the mask; beyond rounding, it changes
                memory and speed only. A noise is evaluated under both prompts at once, so that at least 2 are, or 4
                where the negative prompts differ.
            mask_refine: Whether a found mask follows the picture's edges and is drawn as the edit wants it, see
                `drawn_mask`. Without `image` there are no edges to follow, and it is only drawn.
            mask_grow: Pixels, as the model sees them, to widen the mask by; negative narrows it. With this or
                `mask_feather` a found mask is cut at the threshold and shaped as told, a colour edit's and an object
                edit's alike.
            mask_feather: Standard deviation, in the same pixels, of the blur of the mask's edge.
            preserve_background: Lay the edit over the original's own pixels, so that those outside the mask
                stay bit by bit and do not pass through the VAE. Needs `image`, and is the default where there is one.
                Without it all that the model worked at goes through the VAE, and back to the original's size if it was
                resized.
            guidance_rescale: In [0, 1]; see `rescale_guidance`.
            guidance_stop: Fraction of the schedule's steps, from the noisy end, that are guided, in [0, 1]; the others
                take the conditional prediction alone, and half the evaluations. By default 0.5 for edits that are found
                to change a colour, 1 for others, for masks of your own, and in the paper.
            preset: "default" or "paper".
            height, width: The size in pixels that the model works at, multiples of the VAE's factor; both or neither.
                By default that of a picture whose area is half to twice the model's own, else the model's own area in
                the picture's shape, both to the nearest multiples. The results come back at the picture's own size.
            focus: Whether the model works at the mask's surroundings alone, at its own size, and the result is laid
                over the whole picture. `None` does so where that shows more than the whole would; edits of one call
                whose surroundings are of different shapes are then worked at whole. A `trajectory` settles it.
            output_type: "pil", "np", "pt" or "latent"; latents are of what the model worked at.
            return_dict: Whether to return a [`DiffEditPipelineOutput`] instead of a tuple of its fields.
            callback_on_step_end: `(pipe, step, timestep, tensors) -> dict` after each decoding step; what it
                returns under a tensor's name is used from then on, and so is a `pipe._guidance_scale` that it sets.
            callback_on_step_end_tensor_inputs: Which of `latents`, `prompt_embeds` and
                `negative_prompt_embeds` the callback gets.
            callback, callback_steps: diffusers' older `(step, timestep, latents)` callback.
            cross_attention_kwargs: For the attention processors; "scale" is the LoRA scale.
            clip_skip: Layers of the text encoder to skip, from 0 to the number that it has.

        Returns:
            [`DiffEditPipelineOutput`], or with `return_dict=False` a tuple of its fields.

        Raises:
            ValueError, TypeError: If anything does not fit, before the UNet is first evaluated.
            FloatingPointError: Naming the stage and the step that gave NaN or infinite values.

        Source: DiffEdit, arXiv:2210.11427, Sec. 3.2.
        """
        return self._edit(locals())

    @torch.no_grad()
    def generate_mask(
        self,
        image: PictureInput | None = None,
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
    ) -> np.ndarray | list[PIL.Image.Image] | torch.Tensor:
        """Find where two prompts disagree about a picture: the first of diffusers' three stages.

        The arguments mean what they mean to the call of the pipeline; those that begin with `target_`
        describe the edited picture. Without a `source_prompt` the picture is compared with the empty prompt.
        The negative prompts are "" where not given, and cost twice as many evaluations where they differ.

        Returns:
            1 where the edit is to apply, else 0: an integer array (batch, height // 8, width // 8) for "np",
            black and white pictures of that size for "pil", or a float tensor (batch, 1, height // 8,
            width // 8) for "pt".

        Raises:
            ValueError, TypeError: If anything does not fit, before the UNet is first evaluated.
            FloatingPointError: Naming the stage and the step that gave NaN or infinite values.
        """
        return self._generate_mask(locals())

    @torch.no_grad()
    def invert(
        self,
        prompt: str | list[str] | None = None,
        image: PictureInput | None = None,
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
        callback: Callable[[int, int, torch.Tensor], None] | None = None,
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
    ) -> DiffEditInversionPipelineOutput | tuple[Any, ...]:
        """Encode a picture into noise: the second of diffusers' three stages.

        The arguments mean what they mean to the call of the pipeline, with two defaults of the paper's where
        diffusers has others: the empty prompt, and no guidance, with which an inversion diverges.

        Args:
            prompt: What to encode with; "" by default.
            generator: For the rolls of the regularisation alone; inversion itself draws nothing.
            decode_latents: Whether to decode the latents of every level into pictures too.
            output_type: "pil", "np" or "pt", of those pictures.
            callback, callback_steps: `(step, timestep, latents)`, every so many steps.
            num_reg_steps: Steps of pix2pix-zero's regularisation for each prediction; 0 is none.
            lambda_auto_corr, lambda_kl, num_auto_corr_rolls: Its weights, and shifts per step.

        Returns:
            [`DiffEditInversionPipelineOutput`], or with `return_dict=False` its `latents` and `images`.

        Raises:
            ValueError, TypeError: If anything does not fit, before the UNet is first evaluated.
            FloatingPointError: Naming the stage and the step that gave NaN or infinite values.
        """
        return self._invert(locals())
