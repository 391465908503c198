"""The components of both pipelines for Stable Diffusion XL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.schedulers import KarrasDiffusionSchedulers
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from semantic_edit.denoisers.stable_diffusion_xl import StableDiffusionXLDenoiser
from semantic_edit.disk.models import STABLE_DIFFUSION_XL, Family
from semantic_edit.disk.sizes import SIZES_RULE
from semantic_edit.pipelines.checks import read_attention_kwargs, read_clip_skip
from semantic_edit.pipelines.components import WITH_POOLED_EMBEDS, EditComponents, Uncensored, handed_over


def _sizes_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that a call passes, and instead of those that it leaves out, those of what it builds on."""
    network = arguments.get("mapping_network")
    made = arguments.get("trajectory") if network is None else getattr(network, "config", None)
    are_sizes, _ = SIZES_RULE
    sizes: Any = getattr(made, "sizes", None)
    known = sizes if are_sizes(sizes) else {}  # anything else is refused later
    names = ("original_size", "crops_coords_top_left", "target_size")
    return {name: known.get(name) if arguments.get(name) is None else arguments[name] for name in names}


class StableDiffusionXLComponents(EditComponents, Uncensored):
    """The components of a pipeline; pipelines inherit from it before `DiffusionPipeline`."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"
    _family: ClassVar[Family] = STABLE_DIFFUSION_XL
    _optional_components: ClassVar[list[str]] = [
        "tokenizer",
        "tokenizer_2",
        "text_encoder",
        "text_encoder_2",
        "image_encoder",
        "feature_extractor",
    ]
    _callback_tensor_inputs: ClassVar[list[str]] = WITH_POOLED_EMBEDS

    # prompts mean exactly what they mean to every SDXL pipeline
    encode_prompt = StableDiffusionXLPipeline.encode_prompt

    def __init__(
        self: Any,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        image_encoder: CLIPVisionModelWithProjection = None,
        feature_extractor: CLIPImageProcessor = None,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
    ) -> None:
        super().__init__()
        self._take_modules(
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=unet,
            scheduler=scheduler,
            image_encoder=handed_over("image_encoder", image_encoder),
            feature_extractor=handed_over("feature_extractor", feature_extractor),
        )
        self.register_to_config(
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt, add_watermarker=add_watermarker
        )

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> StableDiffusionXLDenoiser:
        """The loaded model for one call, checked, with the call's arguments that concern it."""
        denoiser = StableDiffusionXLDenoiser(self)
        denoiser.check()
        return replace(
            denoiser,
            cross_attention_kwargs=read_attention_kwargs(arguments["cross_attention_kwargs"]),
            # SDXL uses the penultimate layer
            clip_skip=read_clip_skip(
                arguments.get("clip_skip"), self.text_encoder, self.text_encoder_2, last=1
            ),
            **_sizes_of(arguments),
        )
