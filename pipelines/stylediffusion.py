"""StyleDiffusion as a diffusers pipeline: learn a picture once, restyle it with words as often as you like."""

from __future__ import annotations

import copy
import dataclasses
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

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.disk.numbers import plain_number
from semantic_edit.disk.reading import shortened
from semantic_edit.editing.mask_shapes import MaskInput, MaskShape, mask_to_tensor
from semantic_edit.editing.origins import origins_of
from semantic_edit.editing.schedule import Schedule, schedule_from_scheduler
from semantic_edit.mapping_networks import (
    VARIANTS,
    LearningSettings,
    MappingNetwork,
    check_checkpoint,
    check_config,
)
from semantic_edit.pipelines.callbacks import step_callback
from semantic_edit.pipelines.calls import CallSettings, running_call
from semantic_edit.pipelines.checks import (
    check_callbacks,
    check_flags,
    check_generator,
    check_model,
    check_no_group_offload,
    check_one_of,
    check_output_type,
    read_attention_kwargs,
)
from semantic_edit.pipelines.components import StableDiffusionComponents
from semantic_edit.pipelines.conditioning import Prompt, common_batch_size, encode_prompts, read_prompt
from semantic_edit.pipelines.finishing import finish_pictures
from semantic_edit.pipelines.identity import (
    base_of,
    check_same_adapters,
    check_same_text,
    network_identity,
)
from semantic_edit.pipelines.learning import (
    Lesson,
    attention_resolution,
    encode_image_tokens,
    learn_pictures,
    learned_network,
)
from semantic_edit.pipelines.outputs import StyleDiffusionPipelineOutput
from semantic_edit.pipelines.pictures import PictureInput
from semantic_edit.pipelines.ranges import plain_numbers
from semantic_edit.pipelines.restyling import (
    RestyleSettings,
    Restyling,
    read_prompt_rows,
    restyle,
    word_pictures,
)
from semantic_edit.pipelines.settling import learned_view, read_lesson_view
from semantic_edit.pipelines.stages import (
    EditMask,
    components_restored,
    encode_pictures,
    shape_edit_mask,
)
from semantic_edit.pipelines.truncation import truncation_told
from semantic_edit.pipelines.views import View, read_size


class StyleDiffusionPipeline(
    StableDiffusionComponents,
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
        check_model(self)
        self._check_text()
        self._check_vision()
        check_no_group_offload(unet=self.unet, image_encoder=self.image_encoder)
        guidance_scale, attention_side = plain_numbers(
            guidance_scale=guidance_scale, attention_side=attention_side
        )
        cross_attention_kwargs = read_attention_kwargs(cross_attention_kwargs)
        check_one_of("variant", variant, VARIANTS)
        check_flags(gradient_checkpointing=gradient_checkpointing)
        check_checkpoint(checkpoint)
        if not isinstance(negative_prompt, str):
            raise TypeError(
                f"`negative_prompt` must be one string for all pictures, got {negative_prompt!r}."
            )
        (negative_prompt,) = _read_texts("negative_prompt", negative_prompt)
        settings = _read_settings(settings)
        schedule = schedule_from_scheduler(self.scheduler, num_inference_steps)
        texts = _read_texts("prompt", prompt)
        view = read_lesson_view(
            self, image, mask_image, read_size(height, width, self.vae_scale_factor), focus
        )
        count = common_batch_size(image=view.rows, prompt=len(texts))
        # what is computed in inference mode could not be learned from
        with components_restored(self), torch.inference_mode(False), torch.no_grad():
            given = (Prompt("prompt", texts), Prompt("negative_prompt", (negative_prompt,)))
            embeds = encode_prompts(self, given, count, cross_attention_kwargs)
            clean = encode_pictures(self, view.pictures)
            lesson = Lesson(
                schedule=schedule,
                prompts=texts * (count // len(texts)),
                negative_prompt=negative_prompt,
                clean=clean.expand(count, -1, -1, -1),
                text_embeds=embeds[0],  # type: ignore[arg-type]
                negative_embeds=embeds[1],  # type: ignore[arg-type]
                image_tokens=encode_image_tokens(self, view.pictures).expand(count, -1, -1),
                variant=variant,
                guidance_scale=float(guidance_scale),
                settings=settings,
                queries=attention_resolution(self, clean, attention_side),
                gradient_checkpointing=gradient_checkpointing,
                frames=view.frames,
            )
            result, noisiest = learn_pictures(self, lesson, checkpoint, cross_attention_kwargs)
            identity = network_identity(self.unet, cross_attention_kwargs)
            networks = [
                learned_network(self, lesson, result, noisiest, index, identity) for index in range(count)
            ]
        single = count == 1 and isinstance(prompt, str) and not isinstance(image, (list, tuple))
        return networks[0] if single else networks

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
        check_model(self)
        self._check_text()
        check_output_type(output_type)
        check_callbacks(callback_on_step_end, callback_on_step_end_tensor_inputs)
        check_flags(
            preserve_background=preserve_background,
            output_attention_maps=output_attention_maps,
            return_dict=return_dict,
        )
        cross_attention_kwargs = read_attention_kwargs(cross_attention_kwargs)
        network = mapping_network
        schedule = self._schedule_of(network, num_inference_steps, cross_attention_kwargs)
        config = network.config
        settings = RestyleSettings(
            tau_v,
            tau_c,
            tau_s,
            tau_u,
            {} if word_tau_c is None else word_tau_c,
            edit_type,
            {} if reweight is None else reweight,
            (local_blend,) if isinstance(local_blend, str) else () if local_blend is None else local_blend,
            local_blend_threshold,
            self_attention_side,
        )
        scale, mask_grow, mask_feather = plain_numbers(
            guidance_scale=config.guidance_scale if guidance_scale is None else guidance_scale,
            mask_grow=mask_grow,
            mask_feather=mask_feather,
        )
        targets = _read_texts("prompt", prompt)
        negatives = _read_texts(
            "negative_prompt", config.negative_prompt if negative_prompt is None else negative_prompt
        )
        edits = len(targets)
        check_generator(generator, edits)
        with lock_of(self.tokenizer), truncation_told():  # which `encode_prompts` tells
            texts = [self.maybe_convert_prompt(text, self.tokenizer) for text in (config.prompt, *targets)]
        prompts = read_prompt_rows(self.tokenizer, texts[0], texts[1:], settings)
        drawn = None if mask_image is None else mask_to_tensor(mask_image)
        _check_one_or_each(edits, negative_prompt=negatives, mask_image=drawn)
        view = learned_view(self, config, image, drawn, origins_of(mask_image), preserve_background)
        on_step = step_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs, None, 1)
        self._interrupt = False
        settings_seen = CallSettings(
            schedule.num_inference_steps, scale, cross_attention_kwargs=cross_attention_kwargs
        )
        with components_restored(self), running_call(self, settings_seen):
            device = self._execution_device
            negatives *= edits // len(negatives)
            rows = (
                Prompt("prompt", (config.prompt, *targets)),
                Prompt("negative_prompt", (config.negative_prompt, *negatives)),
            )
            embeds = encode_prompts(self, rows, 1 + edits, cross_attention_kwargs)
            told = [given[0] for given in embeds if given is not None]
            check_same_text(config.text_fingerprint, told, config.prompt)
            if network.device != device:
                network = copy.deepcopy(network).to(device)  # the caller's stays where it is
            shape = MaskShape(mask_grow or 0, mask_feather or 0.0)
            inside = None if drawn is None else view.cut_mask(drawn)
            mask = _edit_mask(inside, network.latents, edits, self.vae_scale_factor, shape)
            call = Restyling(
                schedule=schedule,
                network=network,
                prompts=prompts.to(device),
                settings=settings,
                text_embeds=embeds[0],  # type: ignore[arg-type]
                negative_embeds=embeds[1],  # type: ignore[arg-type]
                guidance_scales=torch.tensor([config.guidance_scale] + [scale] * edits, device=device),
                inside=None if drawn is None else mask.weights,
                watches_words=output_attention_maps,
            )
            done = restyle(self, call, cross_attention_kwargs, on_step)
            covers = view.whole_mask(mask.pixels, drawn, shape)
            images, flags = finish_pictures(
                self, done.latents[1:], output_type, view, mask, preserve_background, covers
            )
            source, _ = finish_pictures(self, done.latents[:1], output_type, View(), mask, False)
        size = tuple(side * self.vae_scale_factor for side in reversed(config.latent_shape[1:]))
        output = StyleDiffusionPipelineOutput(
            images=images,
            nsfw_content_detected=flags,
            reconstruction=source,
            blend_masks=done.blend_masks,
            attention_maps=None if done.word_maps is None else word_pictures(call, done.word_maps, size),
            frames=view.frames,
        )
        return (
            output if return_dict else tuple(getattr(output, one.name) for one in dataclasses.fields(output))
        )

    @staticmethod
    def load_mapping_network(name_or_path: str | os.PathLike[str], **kwargs: Any) -> MappingNetwork:
        """What `MappingNetwork.from_pretrained` loads, for those who have this pipeline as a file and not the package.

        Args:
            name_or_path: A folder that `save_pretrained` wrote, or a Hub id.
            kwargs: For `ModelMixin.from_pretrained`, such as `revision` or `token`.

        Raises:
            ValueError, OSError: If there is none, or it is damaged.
        """
        return MappingNetwork.from_pretrained(name_or_path, **kwargs)

    def _check_text(self) -> None:
        if self.text_encoder is None or self.tokenizer is None:
            raise ValueError(
                "Prompts are aligned word by word, which needs `text_encoder` and `tokenizer`, and this pipeline lacks "
                "one of them; load both."
            )

    def _check_vision(self) -> None:
        missing = [name for name in ("image_encoder", "feature_extractor") if getattr(self, name) is None]
        if missing:
            listed = " and ".join(f"`{name}`" for name in missing)
            raise ValueError(
                f"Learning a picture needs {listed}, which this pipeline does not have. Load "
                "CLIPVisionModelWithProjection and CLIPImageProcessor, for example from "
                '"openai/clip-vit-base-patch16", and pass them to `from_pretrained` or `from_pipe`.'
            )
        if not hasattr(getattr(self.image_encoder, "vision_model", self.image_encoder), "post_layernorm"):
            raise ValueError(
                f"The `image_encoder` is a {type(self.image_encoder).__name__}, and no CLIPVisionModelWithProjection, "
                'which learning a picture needs; load one, for example from "openai/clip-vit-base-patch16".'
            )

    def _schedule_of(
        self, network: Any, num_inference_steps: int | None, cross_attention_kwargs: dict[str, Any] | None
    ) -> Schedule:
        """The schedule that a mapping network was learned on, once everything about it fits this pipeline."""
        if not hasattr(network, "value_embeds") or isinstance(network, type):
            raise TypeError(
                f"`mapping_network` must be a MappingNetwork, got {type(network).__name__}; make one with "
                "`pipe.learn_mapping(image, prompt)` or load one with `pipe.load_mapping_network(folder)`."
            )
        check_config(network.config)
        learned = network.config.num_inference_steps
        steps = plain_number(num_inference_steps)
        if steps is not None and not (isinstance(steps, int) and steps == learned):
            raise ValueError(
                f"`num_inference_steps` is {shortened(steps)}, but the mapping network was learned with {learned} "
                "steps: each step has its own network, learned at its own noise level. Leave it out, or learn the "
                "picture with that number."
            )
        schedule = schedule_from_scheduler(self.scheduler, learned)
        latent_shape = (self.vae.config.latent_channels, *network.config.latent_shape[1:])
        identity = network_identity(self.unet, cross_attention_kwargs)
        network.check_fits(
            schedule,
            (self.tokenizer.model_max_length, self.text_encoder.config.hidden_size),
            latent_shape=latent_shape,
            scaling_factor=self.vae.config.scaling_factor,
            base_fingerprint=base_of(identity),
        )
        check_same_adapters("mapping_network", network.config.base_fingerprint, identity)
        return schedule


def _read_texts(name: str, text: Any) -> tuple[str, ...]:
    """Prompts that are text and nothing else: their words are aligned."""
    if text is None:
        raise TypeError(f"`{name}` must be a string or a list of strings, got None.")
    return read_prompt(name, text, None).texts or ()


def _read_settings(settings: Any) -> LearningSettings:
    named = {"short": LearningSettings.short, "published": LearningSettings.published}
    if isinstance(settings, str) and settings in named:
        return named[settings]()
    # not by class: a custom pipeline's LearningSettings is another class each time that its file is loaded
    if not hasattr(settings, "updates_at") or isinstance(settings, type):
        raise TypeError(
            f'`settings` must be "short", "published" or LearningSettings, got {settings!r}; it says how long to learn.'
        )
    return settings


def _check_one_or_each(edits: int, **given: Any) -> None:
    """Refuse arguments that hold neither one for all prompts nor one for each."""
    for name, values in given.items():
        if values is not None and len(values) not in (1, edits):
            raise ValueError(
                f"`{name}` holds {len(values)} for {edits} prompts. Pass one for all of them, or one for each."
            )


def _edit_mask(
    drawn: torch.Tensor | None, latents: torch.Tensor, edits: int, factor: int, shape: MaskShape
) -> EditMask:
    """A mask that confines the edits, or one that does not."""
    if drawn is not None:
        return shape_edit_mask(drawn, edits, latents[None], factor, shape)
    height, width = latents.shape[1:]
    pixels = latents.new_ones(edits, 1, height * factor, width * factor)
    weights = latents.new_ones(edits, 1, height, width)
    return EditMask(pixels, weights, torch.zeros(edits, dtype=torch.bool, device=latents.device))
