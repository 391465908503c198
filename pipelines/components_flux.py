"""The components of the pipelines for FLUX.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    T5EncoderModel,
    T5TokenizerFast,
)

from semantic_edit.denoisers.denoiser import FLOW_EDIT
from semantic_edit.denoisers.flux import FluxDenoiser
from semantic_edit.disk.models import FLUX, Family
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import Rule, real_number
from semantic_edit.pipelines.checks import read_attention_kwargs, read_sequence_length
from semantic_edit.pipelines.components import WITH_POOLED_EMBEDS, EditComponents, Uncensored, handed_over
from semantic_edit.pipelines.ranges import plain_numbers

TOLD_GUIDANCE: Rule = real_number(0, 1000)
FEW_STEPS = 4  # what schnell was distilled to


class FluxComponents(EditComponents, Uncensored):
    """The components of a pipeline; pipelines inherit from it before `DiffusionPipeline`."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->transformer->vae"
    _family: ClassVar[Family] = FLUX
    _optional_components: ClassVar[list[str]] = ["image_encoder", "feature_extractor"]
    _callback_tensor_inputs: ClassVar[list[str]] = WITH_POOLED_EMBEDS

    # prompts mean exactly what they mean to every FLUX pipeline
    encode_prompt = FluxPipeline.encode_prompt
    _get_clip_prompt_embeds = FluxPipeline._get_clip_prompt_embeds
    _get_t5_prompt_embeds = FluxPipeline._get_t5_prompt_embeds

    def __init__(
        self: Any,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        text_encoder_2: T5EncoderModel,
        tokenizer_2: T5TokenizerFast,
        transformer: FluxTransformer2DModel,
        image_encoder: CLIPVisionModelWithProjection = None,
        feature_extractor: CLIPImageProcessor = None,
    ) -> None:
        super().__init__()
        self._take_modules(
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            transformer=transformer,
            scheduler=scheduler,
            image_encoder=handed_over("image_encoder", image_encoder),
            feature_extractor=handed_over("feature_extractor", feature_extractor),
        )
        self.tokenizer_max_length = 77 if tokenizer is None else tokenizer.model_max_length

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> FluxDenoiser:
        """The loaded model for one call, checked, with the call's arguments that concern it."""
        denoiser = FluxDenoiser(self)
        denoiser.check()
        name, guidance = "joint_attention_kwargs", arguments.get("guidance_scale")
        if guidance is not None:
            why = "The model is told it; 3.5 is usual."
            guidance = read_number("guidance_scale", guidance, TOLD_GUIDANCE, why)
        return replace(
            denoiser,
            attention_kwargs=read_attention_kwargs(arguments.get(name), name),
            max_sequence_length=read_sequence_length(arguments["max_sequence_length"]),
            guidance_scale=denoiser.guidance_scale if guidance is None else guidance,
        )

    def _in_common_terms(self: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call's arguments with guidance away from a negative prompt as "guidance_scale"; with FlowEdit, which has
        none, it is what the model is told under the target's prompt.

        Raises:
            ValueError: If there is a negative prompt without such guidance, or such guidance without one.
        """
        (asked,) = plain_numbers(true_cfg_scale=arguments["true_cfg_scale"])
        scale = 1.0 if asked is None else asked
        given = {name: value for name, value in arguments.items() if "negative" in name and value is not None}
        told = [name for name, value in given.items() if not isinstance(value, str) or value]
        is_flow_edit = arguments.get("encoding") == FLOW_EDIT
        if is_flow_edit and (scale > 1 or told):
            raise ValueError(
                f'`{told[0] if told else "true_cfg_scale"}` does not go with `encoding="{FLOW_EDIT}"`, which follows '
                "both prompts guided by the number that FLUX.1 is told; leave it out, or choose another encoding."
            )
        if told and scale <= 1:
            raise ValueError(
                f"`{told[0]}` has an effect only with `true_cfg_scale` above 1, got {scale:g}: FLUX.1 is guided by a "
                "number that it is told, not away from a prompt. Pass, for example, `true_cfg_scale=4`, for twice as "
                "many evaluations, or leave the negative prompt out."
            )
        if scale > 1 and not given:
            raise ValueError(
                f"`true_cfg_scale` {scale:g} guides away from a negative prompt, and there is none; pass one, which "
                "may be empty, or leave it at 1."
            )
        if is_flow_edit:
            usual, asked = FluxDenoiser.flow_edit_scales[1], arguments.get("guidance_scale")
            scale = usual if asked is None else asked
        common = {**arguments, "guidance_scale": scale}
        if common.get("num_inference_steps") is None and FluxDenoiser(self).is_step_distilled:
            common["num_inference_steps"] = FEW_STEPS
        return common
