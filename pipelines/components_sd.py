"""The components of both pipelines for Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import KarrasDiffusionSchedulers
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from semantic_edit.denoisers.stable_diffusion import StableDiffusionDenoiser
from semantic_edit.disk.models import STABLE_DIFFUSION, Family
from semantic_edit.pipelines.checks import read_attention_kwargs, read_clip_skip
from semantic_edit.pipelines.components import EditComponents, handed_over, logger


class StableDiffusionComponents(EditComponents):
    """The components of a pipeline; pipelines inherit from it before `DiffusionPipeline`."""

    model_cpu_offload_seq = "text_encoder->image_encoder->unet->vae"
    _family: ClassVar[Family] = STABLE_DIFFUSION
    _optional_components: ClassVar[list[str]] = ["safety_checker", "feature_extractor", "image_encoder"]
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["safety_checker"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    # prompts mean exactly what they mean to every Stable Diffusion pipeline: clip_skip, textual inversion,
    # LoRA
    encode_prompt = StableDiffusionPipeline.encode_prompt
    run_safety_checker = StableDiffusionPipeline.run_safety_checker

    def __init__(
        self: Any,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        safety_checker: StableDiffusionSafetyChecker,
        feature_extractor: CLIPImageProcessor,
        image_encoder: CLIPVisionModelWithProjection = None,
        requires_safety_checker: bool = True,
    ) -> None:
        super().__init__()
        if safety_checker is None and requires_safety_checker:
            logger.warning(
                f"{type(self).__name__} has no safety checker. Keep to the model's license, and do not show "
                "unfiltered results to the public. Pass `requires_safety_checker=False` to silence this."
            )
        if safety_checker is not None and feature_extractor is None:
            raise ValueError(
                "A `safety_checker` needs a `feature_extractor` to prepare its pictures; pass both or "
                "neither."
            )
        image_encoder = handed_over("image_encoder", image_encoder)
        if getattr(scheduler, "config", {}).get("steps_offset", 1) != 1:
            # as StableDiffusionPipeline does, otherwise the same model would have different schedules there and here;
            # on a copy, because others may use this scheduler
            scheduler = copy.copy(scheduler)
            scheduler.register_to_config(steps_offset=1)
        self._take_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
            image_encoder=image_encoder,
        )
        self.register_to_config(requires_safety_checker=requires_safety_checker)

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> StableDiffusionDenoiser:
        """The loaded model for one call, checked, with the call's arguments that concern it."""
        denoiser = StableDiffusionDenoiser(self)
        denoiser.check()
        return replace(
            denoiser,
            cross_attention_kwargs=read_attention_kwargs(arguments["cross_attention_kwargs"]),
            clip_skip=read_clip_skip(arguments.get("clip_skip"), self.text_encoder),
        )

    def _censored(self: Any, images: torch.Tensor) -> tuple[torch.Tensor, list[bool] | None]:
        """Images, with those that the safety checker flags in black, and its flags."""
        if self.safety_checker is None:
            return images, None
        # the VAE may have a wider dtype than the other models
        dtype = getattr(self.safety_checker, "dtype", self.vae.dtype)
        _, flags = self.run_safety_checker(2 * images - 1, images.device, dtype)
        safe = torch.tensor([not flag for flag in flags], device=images.device)
        return images * safe[:, None, None, None], flags
