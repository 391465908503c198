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
from semantic_edit.pipelines.images import ImageInput
from semantic_edit.pipelines.outputs import DiffEditInversionPipelineOutput, DiffEditPipelineOutput


class DiffEditPipeline(
    StableDiffusionComponents,
    DiffEditMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Edit an image where two prompts disagree about it, with a Stable Diffusion 1.x or 2.x model.

    The scheduler is only read: every call derives its own DDIM schedule from the scheduler's config, as
    `DDIMScheduler.from_config` would, whichever deterministic sampler it is; `steps_offset` is 1, as in every Stable
    Diffusion pipeline, unless another scheduler is set later. IP-Adapters are refused.

    A call keeps no state on the pipeline: `guidance_scale`, `num_timesteps` and the like can be read only inside the
    call's callback, in its thread. No network is changed either, so threads may share both; they take turns encoding
    prompts with a tokenizer. Only one thread may interrupt, offload or scale a LoRA, because these act on the whole
    pipeline or its models.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder: As for
            [`StableDiffusionPipeline`]; `image_encoder` is kept only for `from_pipe`.
        requires_safety_checker: Whether to warn if there is no safety checker.

    Source: DiffEdit, arXiv:2210.11427.
    """

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | None = None,
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
        callback: Callable[[int, float, torch.Tensor], None] | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        encoding: str | None = None,
    ) -> DiffEditPipelineOutput | tuple[Any, ...]:
        """Edit `image` where `source_prompt` and `prompt` disagree about it.

        A `preset` supplies the settings that are left out. "default" is the best that was measured on still lifes: 20
        steps and 5 maps; a mask that follows the image's edges and is drawn differently for colour edits and for object
        edits; guidance that ends early, for object edits away from the source prompt; and the image's own pixels
        outside the mask and, within an object edit's mask, wherever the edit looks the same. "paper" follows the
        paper: 50 steps, 10 maps, the bare mask, guidance in all steps, and the whole image through the autoencoder.

        Every argument that may be given per edit (images, prompts, masks, trajectories) may also be given once for all
        edits of the batch. Apart from rounding, no edit's result depends on the others in the batch.

        Args:
            image: One or more images, of any size but all of the same: PIL images, arrays (height, width, 3) or tensors
                (3, height, width) with floats in [0, 1]; see `read_images`. May be left out if a `trajectory` or
                `image_latents` hold the image.
            prompt: What the edited image shows.
            source_prompt: What the image shows; "" if there is no caption.
            mask_image: Your own mask, to be used instead of finding one: white (1.0) is edited. Any size with the
                image's aspect ratio; soft values are allowed; see `mask_to_tensor`.
            image_latents: Latents from `invert`, noisiest first.
            trajectory: From an earlier edit or `invert`; saves the inversion. It may reach further than this call
                needs.
            inpaint_strength: The fraction of the steps to encode through, in (0, 1]; the paper's encoding ratio. 0.8 of
                50 steps is 40. Higher values allow larger changes.
            num_inference_steps: Number of steps of the whole schedule; 20, or 50 with the "paper" preset.
            guidance_scale: Classifier-free guidance while decoding; active above 1. By default 7.5, away from the
                negative prompt. In the default preset, edits that are found to change an object, and have no negative
                prompt, instead use 2.5, away from the source prompt.
            negative_prompt: What to steer away from.
            source_negative_prompt: The same for the source side of the mask; `negative_prompt` by default. If the two
                differ, finding a mask costs twice as much.
            num_images_per_prompt: Copies of each edit, which differ only if a callback makes them differ.
            eta: Must be 0; other values cannot be inverted.
            generator: Noise for the mask. A single generator gives each image the same noise maps; a list holds one per
                edit.
            latents: Ignored, as in diffusers: decoding starts from the inverted image.
            prompt_embeds, negative_prompt_embeds, source_prompt_embeds, source_negative_prompt_embeds: (batch, tokens,
                width), instead of the texts.
            num_maps_per_mask: Number of noise maps over which the mask is averaged; 5, or 10 with the "paper" preset.
            mask_encode_strength: Noise level at which the prompts are compared, as a fraction of the steps in (0, 1].
            mask_thresholding_ratio: Clamps the noise difference at this multiple of its mean (3.0 in diffusers); `None`
                adapts to each image's map, by 0.8 of Otsu's threshold.
            mask_threshold: Threshold on the rescaled difference, in (0, 1); higher values give a smaller mask.
            mask_batch_size: Samples per evaluation of the UNet while finding the mask; apart from rounding, it affects
                only memory and speed. Each noise map is evaluated under both prompts at once, so there are always at
                least 2 samples, or 4 if the negative prompts differ.
            mask_refine: Whether a found mask follows the image's edges and is drawn to suit the kind of edit; see
                `drawn_mask`. Without `image` there are no edges to follow, and the mask is only drawn.
            mask_grow: Pixels, as the model sees them, by which to widen the mask; negative values narrow it. If this or
                `mask_feather` is given, a found mask is cut at the threshold and shaped accordingly, for colour edits
                and object edits alike.
            mask_feather: Standard deviation, in the same pixels, of the blur of the mask's edge.
            preserve_background: Lay the edit over the original pixels, so that those outside the mask are kept bit by
                bit and do not pass through the VAE. Needs `image`, and is the default if there is one. Otherwise the
                whole area that the model worked on passes through the VAE, and is resized back to the original's size
                if necessary.
            guidance_rescale: In [0, 1]; see `rescale_guidance`.
            guidance_stop: Fraction of the schedule's steps, counted from the noisy end, that are guided, in [0, 1]; the
                remaining steps use only the conditional prediction, at half the cost. By default 0.5 for edits that are
                found to change a colour, 0.6 for those that are guided away from the source prompt, and 1 for others,
                for your own masks, and in the "paper" preset.
            preset: "default" or "paper".
            height, width: The size in pixels that the model works at, multiples of the VAE's factor; both or neither.
                By default the image's size if its area is half to twice the model's native area, otherwise the native
                area with the image's aspect ratio, each rounded to the nearest multiples. Results are returned at the
                image's own size.
            focus: Whether the model works only on the mask's surroundings, at its native size, and the result is laid
                over the whole image. `None` does so if that shows more detail than the whole image would; edits of one
                call whose surroundings have different aspect ratios are then worked on as whole images. A `trajectory`
                settles it.
            output_type: "pil", "np", "pt" or "latent"; latents are of the area that the model worked on.
            return_dict: Whether to return a [`DiffEditPipelineOutput`] instead of a tuple of its fields.
            callback_on_step_end: `(pipe, step, timestep, tensors) -> dict` after each decoding step; whatever it
                returns under a tensor's name is used from then on, as is a `pipe._guidance_scale` that it sets.
            callback_on_step_end_tensor_inputs: Which of `latents`, `prompt_embeds` and `negative_prompt_embeds` the
                callback receives.
            callback, callback_steps: diffusers' older `(step, timestep, latents)` callback.
            cross_attention_kwargs: For the attention processors; "scale" is the LoRA scale.
            clip_skip: Number of the text encoder's layers to skip, from 0 to all of them.
            encoding: How the image is encoded: "inversion", the default, walks the sampler backwards, at one evaluation
                of the UNet per step; "noise" adds the same noise at every level, at none. Edits of fresh noise differ
                more from the image inside the mask.

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
    ) -> np.ndarray | list[PIL.Image.Image] | torch.Tensor:
        """Find where two prompts disagree about an image: the first of diffusers' three stages.

        The arguments mean the same as in the call of the pipeline; those that begin with `target_` describe the edited
        image. Without a `source_prompt`, the target is compared with the empty prompt. Negative prompts default to "";
        if the two differ, the number of evaluations doubles.

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
    ) -> DiffEditInversionPipelineOutput | tuple[Any, ...]:
        """Encode an image into noise: the second of diffusers' three stages.

        The arguments mean the same as in the call of the pipeline. Two defaults follow the paper rather than diffusers:
        the prompt is empty, and there is no guidance, which would make the inversion diverge.

        Args:
            prompt: The prompt to encode with; "" by default.
            generator: Only for the random shifts of the regularisation; the inversion itself is deterministic.
            decode_latents: Whether to decode the latents of every level into images as well.
            output_type: "pil", "np" or "pt", for those images.
            callback, callback_steps: `(step, timestep, latents)`, called every `callback_steps` steps.
            num_reg_steps: Steps of pix2pix-zero's regularisation for each prediction; 0 for none.
            lambda_auto_corr, lambda_kl, num_auto_corr_rolls: Its weights, and the number of shifts per step.

        Returns:
            [`DiffEditInversionPipelineOutput`], or with `return_dict=False` its `latents` and `images`.

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together; before the UNet is
                first evaluated.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.
        """
        return self._invert(locals())
