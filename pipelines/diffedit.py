"""DiffEdit as a diffusers pipeline: in one call, or in diffusers' three stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
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

from semantic_edit.editing.mask_shapes import MaskInput, MaskShape
from semantic_edit.editing.refinement import changes_colour
from semantic_edit.editing.regularization import noise_regularizer
from semantic_edit.editing.schedule import schedule_from_scheduler
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.callbacks import every_steps, step_callback
from semantic_edit.pipelines.calls import CallSettings, running_call
from semantic_edit.pipelines.checks import (
    check_callable,
    check_callbacks,
    check_decoding,
    check_flags,
    check_generator,
    check_model,
    check_output_type,
    levels_for,
    read_attention_kwargs,
    read_clip_skip,
)
from semantic_edit.pipelines.components import StableDiffusionComponents
from semantic_edit.pipelines.conditioning import common_batch_size
from semantic_edit.pipelines.finishing import finish_pictures
from semantic_edit.pipelines.identity import check_same_adapters, network_identity
from semantic_edit.pipelines.outputs import DiffEditInversionPipelineOutput, DiffEditPipelineOutput
from semantic_edit.pipelines.pictures import PictureInput
from semantic_edit.pipelines.presets import USUAL_GUIDANCE, guidance_of, preset_of
from semantic_edit.pipelines.ranges import plain_numbers
from semantic_edit.pipelines.request import read_edit_prompts, read_edit_request
from semantic_edit.pipelines.searching import searched_view
from semantic_edit.pipelines.stages import (
    MaskSettings,
    clean_latents,
    components_restored,
    convert_pixels,
    decode_edit,
    decode_pixels,
    draw_edit_mask,
    encode_pictures,
    invert_pictures,
    locate_edit,
    shape_edit_mask,
)
from semantic_edit.pipelines.views import read_size, read_view


class DiffEditPipeline(
    StableDiffusionComponents,
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
        check_model(self)
        (
            num_images_per_prompt,
            inpaint_strength,
            guidance_rescale,
            guidance_stop,
            mask_grow,
            mask_feather,
            callback_steps,
        ) = plain_numbers(
            num_images_per_prompt=num_images_per_prompt,
            inpaint_strength=inpaint_strength,
            guidance_rescale=guidance_rescale,
            guidance_stop=guidance_stop,
            mask_grow=mask_grow,
            mask_feather=mask_feather,
            callback_steps=callback_steps,
        )
        check_output_type(output_type)
        check_callbacks(callback_on_step_end, callback_on_step_end_tensor_inputs)
        check_callable("callback", callback)
        check_flags(return_dict=return_dict)
        settled = {"mask_refine": mask_refine, "preserve_background": preserve_background}
        check_flags(**{name: value for name, value in settled.items() if value is not None})
        check_decoding(eta, latents)
        cross_attention_kwargs = read_attention_kwargs(cross_attention_kwargs)
        clip_skip = read_clip_skip(self, clip_skip)
        if guidance_scale is not None:
            (guidance_scale,) = plain_numbers(guidance_scale=guidance_scale)
        chosen = preset_of(
            preset,
            num_inference_steps=num_inference_steps,
            num_maps_per_mask=num_maps_per_mask,
            guidance_scale=guidance_scale,
            guidance_stop=guidance_stop,
            mask_refine=mask_refine,
            preserve_background=preserve_background,
        )
        usual_scale = USUAL_GUIDANCE if chosen.guidance_scale is None else chosen.guidance_scale
        settings = MaskSettings(
            chosen.num_maps_per_mask,
            mask_encode_strength,
            mask_thresholding_ratio,
            mask_threshold,
            mask_batch_size,
        )
        request = read_edit_request(
            self,
            image,
            mask_image,
            image_latents,
            trajectory,
            (
                (prompt, prompt_embeds),
                # "" is the default, beside which embeddings may be given
                (
                    None if isinstance(source_prompt, str) and not source_prompt else source_prompt,
                    source_prompt_embeds,
                ),
                (negative_prompt, negative_prompt_embeds),
                (source_negative_prompt, source_negative_prompt_embeds),
            ),
            chosen.num_inference_steps,
            inpaint_strength,
            usual_scale,
            generator,
            settings,
            mask_grow,
            mask_feather,
            preserve_background or False,
            (height, width),
            focus,
        )
        if request.trajectory is not None:
            here = network_identity(self.unet, cross_attention_kwargs)
            check_same_adapters("trajectory", request.trajectory.model, here)
        preserves = chosen.preserve_background and request.view.has_pixels
        on_step = step_callback(
            self, callback_on_step_end, callback_on_step_end_tensor_inputs, callback, callback_steps
        )
        call = CallSettings(request.levels, usual_scale, guidance_rescale, clip_skip, cross_attention_kwargs)
        self._interrupt = False
        with components_restored(self), running_call(self, call):
            embeds = request.prompts.encode(self, request.edits, cross_attention_kwargs, clip_skip)
            view, clean = searched_view(self, request, embeds, cross_attention_kwargs)
            if clean is None:
                clean = clean_latents(self, view.pictures, request.trajectory, embeds.target.device)
            found, own = None, request.own_mask
            shaped = mask_grow is not None or mask_feather is not None
            if own is None:
                found = locate_edit(
                    self,
                    request.schedule,
                    clean.expand(request.edits, -1, -1, -1),
                    embeds,
                    settings,
                    usual_scale,
                    generator,
                    cross_attention_kwargs,
                )
                drawn = draw_edit_mask(
                    found,
                    view.pictures,
                    settings.mask_threshold,
                    self.vae_scale_factor,
                    chosen.mask_refine,
                    shaped,
                )
            else:
                drawn = view.cut_mask(own)
            pastes = preserves and output_type != "latent"
            room = round(chosen.mask_room * self.vae_scale_factor) if pastes else 0
            shape = MaskShape(mask_grow or 0, mask_feather or 0.0, room)
            mask = shape_edit_mask(
                drawn, request.edits, clean, self.vae_scale_factor, shape, is_found=found is not None
            )
            whole_mask = view.whole_mask(mask.pixels, own, shape)
            inversion, walk = request.trajectory, None
            if not mask.empty.all():
                inversion = inversion or invert_pictures(
                    self,
                    request.schedule,
                    request.levels,
                    inpaint_strength,
                    clean,
                    embeds.inversion[: clean.shape[0]],  # type: ignore[index]
                    cross_attention_kwargs=cross_attention_kwargs,
                    frames=view.frames,
                )
                walk = inversion.latents[: request.levels + 1]
            guidance = guidance_of(
                chosen, None if found is None else found.coherence, request.prompts.described(request.edits)
            )
            call.guidance_scale = max(guidance.scales)
            edited = decode_edit(
                self,
                request.schedule,
                walk,
                clean,
                embeds.target,
                embeds.away_from(guidance.from_source),
                mask,
                num_images_per_prompt,
                guidance,
                guidance_rescale,
                cross_attention_kwargs,
                on_step,
            )
            seen_only: list[bool] = []
            if found is not None and chosen.mask_refine and preserves and not shaped:
                # an object's mask is roomy, a colour's tight; the caller's own is taken as it is
                seen_only = [not recoloured for recoloured in changes_colour(found.coherence)]
            images, flags = finish_pictures(
                self, edited, output_type, view, mask, preserves, whole_mask, seen_only
            )
        output = DiffEditPipelineOutput(
            images=images,
            nsfw_content_detected=flags,
            mask=mask.weights,
            pixel_mask=whole_mask,
            soft_mask=None if found is None else found.soft_mask,
            mask_confidence=None if found is None else found.confidence,
            mask_coherence=None if found is None else found.coherence,
            trajectory=inversion if image_latents is None else None,
            frames=view.frames or None,
        )
        return output if return_dict else tuple(getattr(output, field.name) for field in fields(output))

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
        check_model(self)
        (guidance_scale,) = plain_numbers(guidance_scale=guidance_scale)
        check_output_type(output_type, ("np", "pil", "pt"))
        cross_attention_kwargs = read_attention_kwargs(cross_attention_kwargs)
        clip_skip = read_clip_skip(self, clip_skip)
        chosen = preset_of(
            preset, num_inference_steps=num_inference_steps, num_maps_per_mask=num_maps_per_mask
        )
        settings = MaskSettings(
            chosen.num_maps_per_mask,
            mask_encode_strength,
            mask_thresholding_ratio,
            mask_threshold,
            mask_batch_size,
        )
        schedule = schedule_from_scheduler(self.scheduler, chosen.num_inference_steps)
        levels_for(schedule, "mask_encode_strength", settings.mask_encode_strength)
        view = read_view(self, image, read_size(height, width, self.vae_scale_factor))
        if source_negative_prompt is None and source_negative_prompt_embeds is None:
            source_negative_prompt = ""
        prompts = read_edit_prompts(
            self,
            (target_prompt, target_prompt_embeds),
            (source_prompt, source_prompt_embeds),
            (target_negative_prompt, target_negative_prompt_embeds),
            (source_negative_prompt, source_negative_prompt_embeds),
            guided=guidance_scale > 1,
            names=("target_prompt", "target_negative_prompt", "source_prompt"),
        )
        edits = common_batch_size(image=view.batch_size, **prompts.counts)
        check_generator(generator, edits)
        with components_restored(self):
            embeds = prompts.encode(self, edits, cross_attention_kwargs, clip_skip)
            clean = encode_pictures(self, view.pictures, embeds.target.device).expand(edits, -1, -1, -1)
            found = locate_edit(
                self, schedule, clean, embeds, settings, guidance_scale, generator, cross_attention_kwargs
            )
        if output_type == "pt":
            return found.mask
        mask = found.mask[:, 0].cpu().numpy()
        if output_type == "np":
            return mask.astype(np.int64)
        return [PIL.Image.fromarray((255 * one).astype(np.uint8)) for one in mask]

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
        check_model(self)
        (
            inpaint_strength,
            guidance_scale,
            callback_steps,
            num_reg_steps,
            lambda_auto_corr,
            lambda_kl,
            num_auto_corr_rolls,
        ) = plain_numbers(
            inpaint_strength=inpaint_strength,
            guidance_scale=guidance_scale,
            callback_steps=callback_steps,
            num_reg_steps=num_reg_steps,
            lambda_auto_corr=lambda_auto_corr,
            lambda_kl=lambda_kl,
            num_auto_corr_rolls=num_auto_corr_rolls,
        )
        check_output_type(output_type, ("pil", "np", "pt"))
        check_callable("callback", callback)
        check_flags(decode_latents=decode_latents, return_dict=return_dict)
        cross_attention_kwargs = read_attention_kwargs(cross_attention_kwargs)
        clip_skip = read_clip_skip(self, clip_skip)
        steps = preset_of(preset, num_inference_steps=num_inference_steps).num_inference_steps
        schedule = schedule_from_scheduler(self.scheduler, steps)
        levels = levels_for(schedule, "inpaint_strength", inpaint_strength)
        view = read_view(self, image, read_size(height, width, self.vae_scale_factor))
        if prompt is None and prompt_embeds is None:
            prompt = ""
        guided = guidance_scale > 1
        prompts = read_edit_prompts(
            self,
            (prompt, prompt_embeds),
            None,
            (negative_prompt, negative_prompt_embeds),
            (None, None),
            guided,
        )
        edits = common_batch_size(image=view.batch_size, **prompts.counts)
        check_generator(generator, edits)
        adjust = None
        if num_reg_steps:
            if isinstance(generator, list):
                raise ValueError(
                    "`generator` is a list, and all pictures are rolled alike by the regularisation; pass a single one."
                )
            adjust = noise_regularizer(
                schedule, num_reg_steps, lambda_auto_corr, lambda_kl, num_auto_corr_rolls, generator
            )
        with components_restored(self):
            embeds = prompts.encode(self, edits, cross_attention_kwargs, clip_skip)
            trajectory = invert_pictures(
                self,
                schedule,
                levels,
                inpaint_strength,
                encode_pictures(self, view.pictures, embeds.target.device).expand(edits, -1, -1, -1),
                embeds.target,
                embeds.target_negative,
                guidance_scale,
                prompts.target.texts,
                cross_attention_kwargs,
                adjust,
                every_steps(callback, callback_steps),
                view.frames,
            )
            latents = trajectory.latents.transpose(0, 1).flip(1)
            images = None
            if decode_latents:
                images = convert_pixels(self, decode_pixels(self, latents.flatten(0, 1)), output_type)
        if not return_dict:
            return latents, images
        return DiffEditInversionPipelineOutput(latents=latents, images=images, trajectory=trajectory)
