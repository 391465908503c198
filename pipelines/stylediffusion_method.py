"""StyleDiffusion itself, for every family of models with cross attention: learn a picture, and restyle it."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from semantic_edit.denoisers.identity import check_same_adapters, check_same_text
from semantic_edit.denoisers.prompts import Prompt, PromptInput
from semantic_edit.denoisers.unet import UNetDenoiser
from semantic_edit.disk.numbers import plain_number
from semantic_edit.disk.reading import shortened
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.origins import origins_of
from semantic_edit.editing.schedule import Schedule
from semantic_edit.mapping_networks import (
    VARIANTS,
    LearningSettings,
    MappingNetwork,
    check_checkpoint,
    check_config,
)
from semantic_edit.pipelines.callbacks import read_step_hooks
from semantic_edit.pipelines.calls import CallSettings, running_call
from semantic_edit.pipelines.checks import (
    check_flags,
    check_generator,
    check_no_group_offload,
    check_one_of,
    check_optional_flags,
    check_output_type,
    common_batch_size,
)
from semantic_edit.pipelines.confining import Confinement, confined
from semantic_edit.pipelines.finishing import Composition, finish_images
from semantic_edit.pipelines.learning import (
    Lesson,
    attention_resolution,
    encode_image_tokens,
    learn_images,
    learned_network,
)
from semantic_edit.pipelines.outputs import StyleDiffusionPipelineOutput, as_tuple
from semantic_edit.pipelines.ranges import read_numbers
from semantic_edit.pipelines.restyling import Restyling, restyle
from semantic_edit.pipelines.session import components_restored, session_of
from semantic_edit.pipelines.settling import learned_view, read_lesson_view
from semantic_edit.pipelines.stages import encode_images
from semantic_edit.pipelines.views import View, read_size
from semantic_edit.pipelines.words import RestyleSettings, read_prompt_rows, word_images


class StyleDiffusionMixin:
    """The StyleDiffusion method; pipelines inherit from it beside a family's components. Not a pipeline itself."""

    if TYPE_CHECKING:
        _interrupt: bool
        image_encoder: Any
        feature_extractor: Any
        config: Any

        def _denoiser(self, arguments: Mapping[str, Any]) -> UNetDenoiser: ...
        def _censored(self, images: torch.Tensor) -> tuple[torch.Tensor, list[bool] | None]: ...

    def _learn(self, arguments: Mapping[str, Any]) -> MappingNetwork | list[MappingNetwork]:
        """Learn pictures, given the arguments of `learn_mapping`; arXiv:2303.15649, Sec. 3.2."""
        denoiser = self._denoiser(arguments)
        denoiser.check_words()
        self._check_vision()
        check_no_group_offload(unet=denoiser.unet, image_encoder=self.image_encoder)
        given = read_numbers(arguments, optional=("attention_side", "height", "width"))
        check_one_of("variant", given["variant"], VARIANTS)
        check_flags(gradient_checkpointing=given["gradient_checkpointing"])
        check_optional_flags(focus=given["focus"])
        check_checkpoint(given["checkpoint"])
        settings = _read_settings(given["settings"])
        schedule = denoiser.schedule(given["num_inference_steps"])
        prompts = _read_learned_prompts(denoiser, given)
        size = read_size(given["height"], given["width"], denoiser.multiple)
        view = read_lesson_view(denoiser, given["image"], given["mask_image"], size, given["focus"])
        count = common_batch_size(image=view.rows, prompt=prompts[0].batch_size)
        # tensors made in inference mode cannot be used in learning
        with components_restored(self), torch.inference_mode(False), torch.no_grad():
            told, negative = denoiser.embed(prompts, count)
            clean = encode_images(denoiser, view.images)
            lesson = Lesson(
                prompts=prompts,
                clean=clean.expand(count, -1, -1, -1),
                given=told,  # type: ignore[arg-type]
                negative=negative,  # type: ignore[arg-type]
                image_tokens=encode_image_tokens(self, view.images).expand(count, -1, -1),
                variant=given["variant"],
                guidance_scale=float(given["guidance_scale"]),
                settings=settings,
                queries=attention_resolution(denoiser, clean, given["attention_side"]),
                gradient_checkpointing=given["gradient_checkpointing"],
                frames=view.frames,
                base_model=str(self.config.get("_name_or_path") or ""),
            )
            session = session_of(self, denoiser, schedule)
            learned = learn_images(session, lesson, given["checkpoint"])
            networks = [learned_network(session, lesson, learned, index) for index in range(count)]
        is_list = not isinstance(given["prompt"], str) or isinstance(given["image"], (list, tuple))
        return networks if is_list or count > 1 else networks[0]

    def _restyle(self, arguments: Mapping[str, Any]) -> StyleDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit a learned picture, given the arguments of a call; arXiv:2303.15649, Sec. 3.3."""
        denoiser = self._denoiser(arguments)
        denoiser.check_words()
        check_output_type(arguments["output_type"])
        hooks = read_step_hooks(self, arguments)
        check_flags(**{name: arguments[name] for name in _FLAGS})
        network = arguments["mapping_network"]
        schedule = _schedule_of(denoiser, network, arguments["num_inference_steps"])
        config = network.config
        given = read_numbers(_with_learned(arguments, config), optional=("self_attention_side",))
        settings = RestyleSettings.of(given)
        prompts = _read_restyled_prompts(denoiser, given, config)
        edits = prompts[0].batch_size - 1
        check_generator(given["generator"], edits)
        tokens = [denoiser.tokens(text) for text in prompts[0].texts or ()]
        rows = read_prompt_rows(tokens, settings)
        asked = Confinement.read(given)
        _check_one_or_each(edits, mask_image=asked.drawn)
        view = learned_view(denoiser, config, given["image"], asked.drawn, origins_of(given["mask_image"]))
        asked.check(view, network.walk)
        scale = given["guidance_scale"]
        call = CallSettings.of(arguments, schedule.num_inference_steps, scale)
        self._interrupt = False
        with components_restored(self), running_call(self, call):
            told, negative = _embed_rows(denoiser, prompts)
            first = slice(1)
            check_same_text(config.text_fingerprint, (told.rows(first), negative.rows(first)), config.prompt)
            if network.device != denoiser.device:
                network = copy.deepcopy(network).to(denoiser.device)  # the caller's own network is not moved
            session = session_of(self, denoiser, schedule)
            walk = network.noisiest[None] if network.walk is None else network.walk
            area = confined(session, asked, view, told, walk)
            scales = torch.tensor([config.guidance_scale] + [scale] * edits, device=denoiser.device)
            restyling = Restyling(
                latents=network.noisiest,
                prompts=rows.to(denoiser.device),
                settings=settings,
                given=told,
                negative=negative,
                guidance_scales=scales,
                walk=network.walk,
                values=network.value_embeds,
                inside=area.inside,
                watches_words=given["output_attention_maps"],
            )
            done = restyle(session, restyling, hooks)
            laid, how = area.laid(view, asked), given["output_type"]
            images, flags = finish_images(denoiser, done.latents[1:], how, laid, self._censored)
            alone = Composition(View(), area.mask)
            source, _ = finish_images(denoiser, done.latents[:1], how, alone, self._censored)
        size = tuple(side * denoiser.cell for side in reversed(config.latent_shape[1:]))
        output = StyleDiffusionPipelineOutput(
            images=images,
            nsfw_content_detected=flags,
            reconstruction=source,
            pixel_mask=None if area.inside is None else laid.whole_mask,
            blend_masks=done.blend_masks,
            attention_maps=None if done.word_maps is None else word_images(rows.tokens, done.word_maps, size),
            frames=view.frames,
        )
        return output if arguments["return_dict"] else as_tuple(output)

    @staticmethod
    def load_mapping_network(name_or_path: str | os.PathLike[str], **kwargs: Any) -> MappingNetwork:
        """Like `MappingNetwork.from_pretrained`, for users who have this pipeline as a single file without the package.

        Args:
            name_or_path: A folder that `save_pretrained` wrote, or a Hub id.
            kwargs: For `ModelMixin.from_pretrained`, such as `revision` or `token`.

        Raises:
            ValueError, OSError: If there is none, or it is damaged.
        """
        return MappingNetwork.from_pretrained(name_or_path, **kwargs)

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
                f"The `image_encoder` is a {type(self.image_encoder).__name__}, but learning a picture needs a "
                'CLIPVisionModelWithProjection; load one, for example from "openai/clip-vit-base-patch16".'
            )


LEARNING = ("none", "short", "long", "published")
_FLAGS = ("preserve_background", "output_attention_maps", "return_dict")


def _schedule_of(denoiser: UNetDenoiser, network: Any, num_inference_steps: Any) -> Schedule:
    """The schedule that a mapping network was learned on, after checking that the network fits this pipeline."""
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
    _, height, width = network.config.latent_shape
    schedule, model = denoiser.schedule(learned), denoiser.known(height, width)
    network.check_fits(
        schedule,
        (denoiser.num_text_tokens, denoiser.text_width),
        model,
        latent_shape=(denoiser.latent_channels, height, width),
    )
    check_same_adapters("mapping_network", network.config.base_fingerprint, model.fingerprint)
    return schedule


def _with_learned(arguments: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """A call's arguments, with the learned ones in place of those that are left out."""
    names = ("guidance_scale", "negative_prompt")
    learned = {name: getattr(config, name) for name in names if arguments[name] is None}
    return {**arguments, **learned}


def _read_learned_prompts(denoiser: UNetDenoiser, given: Mapping[str, Any]) -> tuple[Prompt, Prompt]:
    """The prompts under which pictures are learned, and their negative prompt."""
    prompt, negative = _read_text(denoiser, given, "prompt"), given["negative_prompt"]
    if negative is None and denoiser.knows_absence:
        return prompt, denoiser.absent_prompt("negative_prompt")
    if not isinstance(negative, str):
        raise TypeError(f"`negative_prompt` must be one string for all pictures, got {negative!r}.")
    return prompt, _read_text(denoiser, given, "negative_prompt")


def _read_restyled_prompts(
    denoiser: UNetDenoiser, given: Mapping[str, Any], config: Any
) -> tuple[Prompt, Prompt, Prompt]:
    """The prompts of all rows, the learned one first; the learned negative prompt; the edits' negative prompts."""
    targets = _read_text(denoiser, given, "prompt").texts or ()
    absent = denoiser.absent_prompt("negative_prompt")
    own = absent if config.negative_prompt is None else Prompt("negative_prompt", (config.negative_prompt,))
    negative = absent if given["negative_prompt"] is None else _read_text(denoiser, given, "negative_prompt")
    _check_one_or_each(len(targets), negative_prompt=negative.texts)
    return Prompt("prompt", (config.prompt, *targets)), own, negative


def _embed_rows(
    denoiser: UNetDenoiser, prompts: tuple[Prompt, Prompt, Prompt]
) -> tuple[Conditioning, Conditioning]:
    """The embedded prompt and negative prompt of each row."""
    rows, own, negative = prompts
    edits = rows.batch_size - 1
    if not own.is_absent and not negative.is_absent:
        texts = negative.texts or ()
        away = Prompt("negative_prompt", (*(own.texts or ()), *texts * (edits // len(texts))))
        told, negatives = denoiser.embed((rows, away), 1 + edits)
        return told, negatives  # type: ignore[return-value]
    told, first, others = denoiser.embed((rows, own, negative), 1 + edits)
    # a mix of an absent prompt and texts, which cannot be embedded as one argument
    return told, Conditioning.cat([first.rows(slice(1)), others.rows(slice(-edits, None))])  # type: ignore[return-value, union-attr]


def _read_text(denoiser: UNetDenoiser, given: Mapping[str, Any], name: str) -> Prompt:
    """A prompt that must be text, because its words are aligned."""
    if given[name] is None:
        raise TypeError(f"`{name}` must be a string or a list of strings, got None.")
    return denoiser.read_prompt(PromptInput.of(given, name))


def _read_settings(settings: Any) -> LearningSettings:
    named = {name: getattr(LearningSettings, name) for name in LEARNING}
    if isinstance(settings, str) and settings in named:
        return named[settings]()
    # not by class: each time a custom pipeline's file is loaded, its LearningSettings is a new class
    if not hasattr(settings, "updates_at") or isinstance(settings, type):
        raise TypeError(
            f"`settings` must be {', '.join(map(repr, LEARNING))} or LearningSettings, got {settings!r}; it says how "
            "long to learn."
        )
    return settings


def _check_one_or_each(edits: int, **given: Any) -> None:
    """Raise a ValueError if an argument holds neither one value for all prompts nor one for each."""
    for name, values in given.items():
        if values is not None and len(values) not in (1, edits):
            raise ValueError(
                f"`{name}` holds {len(values)} for {edits} prompts. Pass one for all of them, or one for each."
            )
