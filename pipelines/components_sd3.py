"""The components of the pipelines for Stable Diffusion 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    SiglipImageProcessor,
    SiglipVisionModel,
    T5EncoderModel,
    T5TokenizerFast,
)

from semantic_edit.denoisers.stable_diffusion_3 import StableDiffusion3Denoiser
from semantic_edit.disk.models import STABLE_DIFFUSION_3, Family
from semantic_edit.pipelines.checks import read_attention_kwargs, read_clip_skip, read_sequence_length
from semantic_edit.pipelines.components import WITH_POOLED_EMBEDS, EditComponents, Uncensored, handed_over


class StableDiffusion3Components(EditComponents, Uncensored):
    """The components of a pipeline; pipelines inherit from it before `DiffusionPipeline`."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->text_encoder_3->image_encoder->transformer->vae"
    _family: ClassVar[Family] = STABLE_DIFFUSION_3
    _optional_components: ClassVar[list[str]] = ["image_encoder", "feature_extractor"]
    _callback_tensor_inputs: ClassVar[list[str]] = WITH_POOLED_EMBEDS

    # prompts mean exactly what they mean to every Stable Diffusion 3 pipeline
    encode_prompt = StableDiffusion3Pipeline.encode_prompt
    _get_clip_prompt_embeds = StableDiffusion3Pipeline._get_clip_prompt_embeds
    _get_t5_prompt_embeds = StableDiffusion3Pipeline._get_t5_prompt_embeds

    def __init__(
        self: Any,
        transformer: SD3Transformer2DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer_2: CLIPTokenizer,
        text_encoder_3: T5EncoderModel,
        tokenizer_3: T5TokenizerFast,
        image_encoder: SiglipVisionModel = None,
        feature_extractor: SiglipImageProcessor = None,
    ) -> None:
        super().__init__()
        self._take_modules(
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            text_encoder_3=text_encoder_3,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            tokenizer_3=tokenizer_3,
            transformer=transformer,
            scheduler=scheduler,
            image_encoder=handed_over("image_encoder", image_encoder),
            feature_extractor=handed_over("feature_extractor", feature_extractor),
        )
        self.tokenizer_max_length = 77 if tokenizer is None else tokenizer.model_max_length

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> StableDiffusion3Denoiser:
        """The loaded model for one call, checked, with the call's arguments that concern it."""
        denoiser = StableDiffusion3Denoiser(self)
        denoiser.check()
        name = "joint_attention_kwargs"
        return replace(
            denoiser,
            attention_kwargs=read_attention_kwargs(arguments.get(name), name),
            # both CLIPs give their penultimate layer
            clip_skip=read_clip_skip(
                arguments.get("clip_skip"), self.text_encoder, self.text_encoder_2, last=1
            ),
            max_sequence_length=read_sequence_length(arguments["max_sequence_length"]),
        )
