"""The components of the pipelines for Qwen-Image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from semantic_edit.denoisers.qwen_image import QwenImageDenoiser
from semantic_edit.disk.models import QWEN_IMAGE, Family
from semantic_edit.pipelines.calls import OfTheCall
from semantic_edit.pipelines.checks import read_attention_kwargs, read_guidance, read_sequence_length
from semantic_edit.pipelines.components import EditComponents, Uncensored

QWEN_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""What a Qwen-Image model was trained to find around every prompt; its tokens before the prompt are left out."""

TOKENS_BEFORE_PROMPT = 34


class QwenImageComponents(EditComponents, Uncensored):
    """The components of a pipeline; pipelines inherit from it before `DiffusionPipeline`."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _family: ClassVar[Family] = QWEN_IMAGE
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    # prompts mean exactly what they mean to every Qwen-Image pipeline
    encode_prompt = QwenImagePipeline.encode_prompt
    _get_qwen_prompt_embeds = QwenImagePipeline._get_qwen_prompt_embeds
    _extract_masked_hidden = QwenImagePipeline._extract_masked_hidden

    attention_kwargs = OfTheCall("cross_attention_kwargs")

    def __init__(
        self: Any,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKLQwenImage,
        text_encoder: Qwen2_5_VLForConditionalGeneration,
        tokenizer: Qwen2Tokenizer,
        transformer: QwenImageTransformer2DModel,
    ) -> None:
        super().__init__()
        self._take_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=transformer,
            scheduler=scheduler,
        )
        self.tokenizer_max_length = 1024
        self.prompt_template_encode = QWEN_TEMPLATE
        self.prompt_template_encode_start_idx = TOKENS_BEFORE_PROMPT

    @staticmethod
    def _halvings(vae: Any) -> int:
        return len(getattr(vae, "temperal_downsample", (False, True, True)))

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> QwenImageDenoiser:
        """The loaded model for one call, checked, with the call's arguments that concern it."""
        denoiser = QwenImageDenoiser(self)
        denoiser.check()
        name = "attention_kwargs"
        return replace(
            denoiser,
            attention_kwargs=read_attention_kwargs(arguments.get(name), name),
            max_sequence_length=read_sequence_length(
                arguments["max_sequence_length"], self.tokenizer_max_length
            ),
        )

    def _in_common_terms(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call's arguments, with `true_cfg_scale` as "guidance_scale"."""
        return {**arguments, "guidance_scale": read_guidance(arguments, "true_cfg_scale", none=1.0)}
