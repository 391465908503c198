"""DiffEdit itself, for every family of models: find where two prompts disagree, encode, and decode within that."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import PIL.Image
import torch

from semantic_edit.denoisers.denoiser import INVERSION, Denoiser
from semantic_edit.editing.guidance import PromptPair
from semantic_edit.editing.inversion import predicting
from semantic_edit.editing.mask_shapes import MaskInput
from semantic_edit.editing.masking import MaskResult, find_mask
from semantic_edit.pipelines.callbacks import every_steps, read_step_hooks
from semantic_edit.pipelines.calls import CallSettings, running_call
from semantic_edit.pipelines.checks import (
    check_callable,
    check_flags,
    check_generator,
    check_output_type,
    common_batch_size,
    levels_for,
)
from semantic_edit.pipelines.encoding import edit_guidance, encode_and_decode
from semantic_edit.pipelines.explaining import attention_in_images
from semantic_edit.pipelines.finishing import Composition, convert_pixels, finish_images
from semantic_edit.pipelines.images import ImageInput, read_images
from semantic_edit.pipelines.locating import locate_request, whole_mask_of
from semantic_edit.pipelines.masks import warn_of_alike_prompts
from semantic_edit.pipelines.options import (
    OF_PRESETS,
    read_edit_options,
    read_mask_settings,
    read_prompt_inputs,
)
from semantic_edit.pipelines.outputs import (
    AttentionMapsOutput,
    DiffEditInversionPipelineOutput,
    DiffEditMaskOutput,
    DiffEditPipelineOutput,
    as_tuple,
    mask_output,
)
from semantic_edit.pipelines.presets import preset_of
from semantic_edit.pipelines.ranges import read_numbers
from semantic_edit.pipelines.removing import without_object
from semantic_edit.pipelines.request import (
    EditRequest,
    PromptUses,
    latent_size,
    read_edit_prompts,
    read_edit_request,
)
from semantic_edit.pipelines.session import components_restored, session_of
from semantic_edit.pipelines.stages import (
    contrast_prompts,
    encode_images,
    invert_images,
    new_trajectory,
)
from semantic_edit.pipelines.upstream import Regularization, regularised
from semantic_edit.pipelines.views import read_size, read_view
from semantic_edit.pipelines.words import word_images

SIZES = ("height", "width")


class DiffEditMixin:
    """The DiffEdit method; pipelines inherit from it beside a family's components. It is not a pipeline itself."""

    _UNGUIDED: ClassVar[Mapping[str, float]] = {"guidance_scale": 1.0}
    """The argument of a call that turns guidance off."""

    if TYPE_CHECKING:
        _interrupt: bool

        def _denoiser(self, arguments: Mapping[str, Any]) -> Denoiser: ...
        def _censored(self, images: torch.Tensor) -> tuple[torch.Tensor, list[bool] | None]: ...

    def _in_common_terms(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call's arguments, with a "guidance_scale" that counts as [`classifier_free_guidance`] does.

        Raises:
            ValueError: If there is a negative prompt without guidance away from it, in families where that is easily
                overlooked.
        """
        return arguments

    def _edit(self, arguments: Mapping[str, Any]) -> DiffEditPipelineOutput | tuple[Any, ...]:
        """Run an edit, given the arguments of a call: DiffEdit's three steps, arXiv:2210.11427, Sec. 3.2."""
        denoiser, arguments = self._denoiser(arguments), self._in_common_terms(arguments)
        options = read_edit_options(denoiser, arguments)
        hooks = read_step_hooks(self, arguments)
        request = read_edit_request(denoiser, options)
        call = CallSettings.of(arguments, request.levels, options.usual_guidance)
        self._interrupt = False
        with components_restored(self), running_call(self, call):
            here = locate_request(session_of(self, denoiser, request.schedule), request)
            request, found, mask, view = here.request, here.found, here.mask, here.request.view
            guidance = edit_guidance(here)
            call.guidance_scale, call.num_timesteps = max(guidance.scales), request.levels
            edited, inversion = encode_and_decode(here, guidance, hooks)
            whole = whole_mask_of(request, mask)
            laid = Composition(view, mask, request.preserves, whole, _seen_only(request, found))
            images, flags = finish_images(denoiser, edited, options.output_type, laid, self._censored)
        output = DiffEditPipelineOutput(
            images=images,
            nsfw_content_detected=flags,
            mask=mask.weights,
            pixel_mask=whole,
            soft_mask=None if found is None else found.soft_mask,
            mask_confidence=None if found is None else found.confidence,
            mask_coherence=None if found is None else found.coherence,
            trajectory=inversion if options.image_latents is None else None,
            frames=view.frames or None,
            contrast=here.contrast,
        )
        return output if arguments["return_dict"] else as_tuple(output)

    @torch.no_grad()
    def locate(
        self,
        image: ImageInput,
        source_prompt: str | list[str] = "",
        prompt: str | list[str] | None = None,
        **arguments: Any,
    ) -> DiffEditMaskOutput:
        """Find where two prompts disagree about an image, and edit nothing: the first half of a call.

        The masks are black and white pictures of the image's own size, as the `mask_image` of this pipeline or of any
        inpainting pipeline of diffusers.

        Args:
            image, source_prompt, prompt: As for a call.
            arguments: Any others of a call's arguments.

        Returns:
            [`DiffEditMaskOutput`].

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.

        Source: DiffEdit, arXiv:2210.11427, Sec. 3.2, step 1.
        """
        given = self._arguments("locate", arguments, image=image, source_prompt=source_prompt, prompt=prompt)
        denoiser, given = self._denoiser(given), self._in_common_terms(given)
        request = read_edit_request(denoiser, read_edit_options(denoiser, given))
        with components_restored(self):
            here = locate_request(session_of(self, denoiser, request.schedule), request)
        return mask_output(here.request, here.contrast, here.found, here.mask)

    @torch.no_grad()
    def remove(
        self, image: ImageInput, prompt: str | list[str], mask_image: MaskInput, **arguments: Any
    ) -> DiffEditPipelineOutput | tuple[Any, ...]:
        """Take away what a mask marks.

        A call by itself mostly fails at this: what is inside the mask is decoded from its inversion, which still shows
        an object, and the model paints another one there. Here the mask is first filled smoothly from its surroundings,
        and the model only adds what such a place looks like: the texture of the ground, an edge that goes on.

        Args:
            image: One or more images, in pixels.
            prompt: What is left, for example "a mug on grass".
            mask_image: What is to go, with its shadow and close around both; read as for a call, and cut at a half.
                Masks that are found are too rough for this.
            arguments: Any others of a call's arguments but a trajectory. `inpaint_strength` is 0.4 and nothing is
                guided, unless a scale or a negative prompt is given.

        Returns:
            [`DiffEditPipelineOutput`], without a trajectory.

        Raises:
            ValueError, TypeError: If any argument is invalid, arguments do not fit together, or the mask covers the
                whole image.
            FloatingPointError: If values become NaN or infinite; names the stage and the step.
        """
        given = self._arguments("remove", arguments, mask_image=mask_image)
        if mask_image is None:
            raise ValueError(
                "`remove` needs a `mask_image`: white where the image shows what is to go, and its shadow."
            )
        images = read_images(image, latent_channels=self._denoiser(given).latent_channels)
        return without_object(self, images, prompt, {**arguments, "mask_image": mask_image})

    @torch.no_grad()
    def explain(
        self,
        image: ImageInput,
        prompt: str | list[str],
        generator: torch.Generator | list[torch.Generator] | None = None,
        **arguments: Any,
    ) -> AttentionMapsOutput:
        """Draw where in an image the model looks for each word of a prompt.

        Args:
            image: One or more images, in pixels.
            prompt: What the image shows; one for all images, or one for each.
            generator: Draws the noise with which the image is looked at.
            arguments: Any others of a call's arguments that concern the image's size and the prompt's encoding.

        Returns:
            [`AttentionMapsOutput`].

        Raises:
            ValueError, TypeError: If any argument is invalid, or arguments do not fit together.
            FloatingPointError: If values become NaN or infinite.

        Source: DAAM, arXiv:2210.04885, of which this is the part for given images.
        """
        given = self._arguments("explain", arguments, image=image, prompt=prompt, generator=generator)
        denoiser = self._denoiser(given)
        options = read_edit_options(denoiser, self._in_common_terms(given))
        view = read_view(denoiser, image, read_size(*options.sides, denoiser.multiple))
        asked = denoiser.read_prompt(options.prompts["target"])
        if asked.texts is None or not view.has_pixels:
            raise ValueError("`explain` needs the `prompt` as text and the `image` in pixels.")
        rows = common_batch_size(image=view.batch_size, prompt=asked.batch_size)
        check_generator(generator, rows)
        schedule = denoiser.schedule(options.preset.num_inference_steps, latent_size(denoiser, view))
        with components_restored(self):
            (embeds,) = denoiser.embed([asked], rows)
            clean = encode_images(denoiser, view.images).expand(rows, -1, -1, -1)
            session = session_of(self, denoiser, schedule)
            maps = attention_in_images(session, clean, embeds, generator)  # type: ignore[arg-type]
        texts = denoiser.tokens_read(asked, rows)
        return AttentionMapsOutput(word_images(texts, maps, view.frame(0).image))

    def _arguments(self, name: str, others: Mapping[str, Any], **given: Any) -> Mapping[str, Any]:
        """The arguments of a call, for a method that takes some of them and leaves out the rest."""
        usual = {name: one.default for name, one in inspect.signature(type(self).__call__).parameters.items()}
        if unknown := others.keys() - usual.keys():
            raise TypeError(f"`{name}` takes the arguments of a call, which has no `{min(unknown)}`.")
        return {**usual, **others, **given}

    def _generate_mask(
        self, arguments: Mapping[str, Any]
    ) -> np.ndarray | list[PIL.Image.Image] | torch.Tensor:
        """Find only a mask, given the arguments of `generate_mask`."""
        denoiser, arguments = self._denoiser(arguments), self._in_common_terms(arguments)
        given = read_numbers(arguments, optional=("num_maps_per_mask", *SIZES))
        check_output_type(given["output_type"], ("np", "pil", "pt"))
        preset = preset_of(given["preset"], **{name: given[name] for name in OF_PRESETS[:2]})
        settings, guidance_scale = read_mask_settings(given, preset), given["guidance_scale"]
        size = read_size(given["height"], given["width"], denoiser.multiple)
        view = read_view(denoiser, given["image"], size)
        schedule = denoiser.schedule(preset.num_inference_steps, latent_size(denoiser, view))
        levels_for(schedule, "mask_encode_strength", settings.mask_encode_strength)
        inputs = read_prompt_inputs(given, "target_prompt", "source_prompt", "target_negative_prompt")
        prompts = read_edit_prompts(denoiser, inputs, PromptUses(guidance_scale > 1, shares_negative=False))
        edits = common_batch_size(image=view.batch_size, **prompts.counts)
        check_generator(given["generator"], edits)
        with components_restored(self):
            embeds = prompts.embed(denoiser, edits)
            clean = encode_images(denoiser, view.images).expand(edits, -1, -1, -1)
            session = session_of(self, denoiser, schedule)
            contrast = contrast_prompts(session, clean, embeds, settings, guidance_scale, given["generator"])
        ratio, threshold = settings.mask_thresholding_ratio, settings.mask_threshold
        found = find_mask(contrast, denoiser.tuning, ratio, threshold)
        warn_of_alike_prompts(found)
        if given["output_type"] == "pt":
            return found.mask
        mask = found.mask[:, 0].cpu().numpy()
        if given["output_type"] == "np":
            return mask.astype(np.int64)
        return [PIL.Image.fromarray((255 * one).astype(np.uint8)) for one in mask]

    def _invert(self, arguments: Mapping[str, Any]) -> DiffEditInversionPipelineOutput | tuple[Any, ...]:
        """Run only an inversion, given the arguments of `invert`."""
        denoiser, arguments = self._denoiser(arguments), self._in_common_terms(arguments)
        if INVERSION not in denoiser.encodings:
            raise ValueError(f"`invert` {denoiser.why_not(INVERSION)}.")
        given = read_numbers(arguments, optional=SIZES)
        check_output_type(given["output_type"], ("pil", "np", "pt"))
        check_callable("callback", given.get("callback"))
        check_flags(decode_latents=given["decode_latents"], return_dict=given["return_dict"])
        preset = preset_of(given["preset"], num_inference_steps=given["num_inference_steps"])
        size = read_size(given["height"], given["width"], denoiser.multiple)
        view = read_view(denoiser, given["image"], size)
        schedule = denoiser.schedule(preset.num_inference_steps, latent_size(denoiser, view))
        levels = levels_for(schedule, "inpaint_strength", given["inpaint_strength"])
        guidance_scale = given["guidance_scale"]
        inputs = read_prompt_inputs(given, "prompt", "source_prompt", "negative_prompt")
        prompts = read_edit_prompts(
            denoiser, inputs, PromptUses(guidance_scale > 1, contrasts=False, required=False)
        )
        edits = common_batch_size(image=view.batch_size, **prompts.counts)
        check_generator(given["generator"], edits)
        towards_white = Regularization.of(given)
        with components_restored(self):
            embeds = prompts.embed(denoiser, edits)
            told = PromptPair(embeds.target, embeds.target_negative)
            predict = predicting(denoiser.for_encoding(), schedule, told, guidance_scale)
            session = session_of(self, denoiser, schedule)
            clean = encode_images(denoiser, view.images).expand(edits, -1, -1, -1)
            made = dataclasses.replace(
                new_trajectory(session, clean, levels, given["inpaint_strength"], view.frames),
                guidance_scale=guidance_scale,
                prompts=prompts.target.texts,
            )
            on_step = every_steps(given.get("callback"), given.get("callback_steps", 1))
            regular = regularised(predict, schedule, towards_white)
            trajectory = invert_images(session, regular, clean, made, preset.inversion_stride, on_step)
            latents = trajectory.latents.transpose(0, 1).flip(1)
            images = None
            if given["decode_latents"]:
                images = convert_pixels(denoiser.decode(latents.flatten(0, 1)), given["output_type"])
        if not given["return_dict"]:
            return latents, images
        return DiffEditInversionPipelineOutput(latents=latents, images=images, trajectory=trajectory)


def _seen_only(request: EditRequest, found: MaskResult | None) -> list[bool]:
    """For each edit, whether the image's own pixels are also kept inside the mask, where the edit changes nothing
    visible.

    The mask of an object edit has room around the object, so this applies there; that of a colour edit is tight, and a
    caller's own mask is taken as it is.
    """
    if found is None or not request.options.preset.mask_refine or not request.preserves:
        return []
    if request.options.is_shaped:
        return []
    return found.has_room
