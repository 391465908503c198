"""The components of the pipelines for FLUX.2 klein."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from semantic_edit.denoisers.flux2_klein import Flux2KleinDenoiser
from semantic_edit.disk.models import FLUX_2_KLEIN, Family
from semantic_edit.pipelines.calls import OfTheCall
from semantic_edit.pipelines.checks import (
    negative_prompts_of,
    read_attention_kwargs,
    read_guidance,
    read_sequence_length,
)
from semantic_edit.pipelines.components import EditComponents, Uncensored

STEPS_OF_DISTILLED = 8
"""Twice what they were distilled to: of 4 steps, an `inpaint_strength` of 0.8 would leave one at 1024 pixels a side."""


class Flux2KleinComponents(EditComponents, Uncensored):
    """The components of a pipeline; pipelines inherit from it before `DiffusionPipeline`."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _family: ClassVar[Family] = FLUX_2_KLEIN
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    # prompts mean exactly what they mean to every FLUX.2 klein pipeline
    encode_prompt = Flux2KleinPipeline.encode_prompt
    _get_qwen3_prompt_embeds = staticmethod(Flux2KleinPipeline._get_qwen3_prompt_embeds)
    _prepare_text_ids = staticmethod(Flux2KleinPipeline._prepare_text_ids)

    attention_kwargs = OfTheCall("cross_attention_kwargs")

    def __init__(
        self: Any,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKLFlux2,
        text_encoder: Qwen3ForCausalLM,
        tokenizer: Qwen2TokenizerFast,
        transformer: Flux2Transformer2DModel,
        is_distilled: bool = False,
    ) -> None:
        super().__init__()
        self._take_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=transformer,
            scheduler=scheduler,
        )
        self.register_to_config(is_distilled=is_distilled)
        self.tokenizer_max_length = 512

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> Flux2KleinDenoiser:
        """The loaded model for one call, checked, with the call's arguments that concern it."""
        denoiser = Flux2KleinDenoiser(self)
        denoiser.check()
        name = "attention_kwargs"
        return replace(
            denoiser,
            attention_kwargs=read_attention_kwargs(arguments.get(name), name),
            max_sequence_length=read_sequence_length(
                arguments["max_sequence_length"], self.tokenizer_max_length
            ),
        )

    def _in_common_terms(self: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call's arguments; with a step-distilled model, without guidance.

        Raises:
            ValueError: If a negative prompt, or in a whole call a guidance scale, would have no effect.
        """
        name = "guidance_scale"
        if not Flux2KleinDenoiser(self).is_step_distilled:
            return {**arguments, name: read_guidance(arguments, name, none=1.0)}
        idle = negative_prompts_of(arguments)
        asked = None if idle else read_guidance(arguments, name, none=1.0, usual=1.0)
        # the stages, which have no encoding, are called with the base model's number unless they are told another
        if asked is not None and asked > 1 and "encoding" in arguments:
            idle = [name]
        if idle:
            raise ValueError(
                f"`{idle[0]}` has no effect with a step-distilled model (`is_distilled` is True in this pipeline's "
                "config), which was trained to do without guidance. Leave it out, or use a FLUX.2 klein base model."
            )
        common = {**arguments, name: 1.0}
        if common["num_inference_steps"] is None:
            common["num_inference_steps"] = STEPS_OF_DISTILLED
        return common
