"""The components of the pipelines for Z-Image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from semantic_edit.denoisers.z_image import ZImageDenoiser, is_step_distilled
from semantic_edit.disk.models import Z_IMAGE, Family
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import real_number
from semantic_edit.pipelines.checks import read_attention_kwargs, read_guidance, read_sequence_length
from semantic_edit.pipelines.components import EditComponents, Uncensored


class ZImageComponents(EditComponents, Uncensored):
    """The components of a pipeline; pipelines inherit from it before `DiffusionPipeline`."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _family: ClassVar[Family] = Z_IMAGE
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    # prompts mean exactly what they mean to every Z-Image pipeline
    encode_prompt = ZImagePipeline.encode_prompt
    _encode_prompt = ZImagePipeline._encode_prompt

    def __init__(
        self: Any,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        transformer: ZImageTransformer2DModel,
    ) -> None:
        super().__init__()
        self._take_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=transformer,
            scheduler=scheduler,
        )

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> ZImageDenoiser:
        """The loaded model for one call, checked, with the call's arguments that concern it."""
        denoiser = ZImageDenoiser(self)
        denoiser.check()
        name = "joint_attention_kwargs"
        why = "It limits the guided prediction's norm to a multiple of the conditional one's; 0 or False is no limit."
        limit = arguments.get("cfg_normalization", False)
        return replace(
            denoiser,
            attention_kwargs=read_attention_kwargs(arguments.get(name), name),
            max_sequence_length=read_sequence_length(arguments["max_sequence_length"], 1024),
            cfg_normalization=float(limit)
            if isinstance(limit, bool)
            else read_number("cfg_normalization", limit, real_number(0, 1000), why),
        )

    def _in_common_terms(self: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call's arguments, with a "guidance_scale" that is 1, and not 0, where there is no guidance."""
        usual = 0.0 if is_step_distilled(self.scheduler) else None
        scale = read_guidance(arguments, "guidance_scale", none=0.0, usual=usual)
        return {**arguments, "guidance_scale": None if scale is None else scale + 1}
