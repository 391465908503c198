"""What both pipelines are made of: a Stable Diffusion model's components."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import logging
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from semantic_edit.denoisers.stable_diffusion import StableDiffusionDenoiser
from semantic_edit.disk.models import unserved, unserved_folder
from semantic_edit.pipelines.calls import OfTheCall
from semantic_edit.pipelines.checks import read_attention_kwargs, read_clip_skip
from semantic_edit.pipelines.versions import check_diffusers

logger = logging.get_logger(__name__)


class StableDiffusionComponents:
    """The components of a pipeline, to inherit from before `DiffusionPipeline`.

    It is no pipeline itself: diffusers loads custom code only where it finds exactly one.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->unet->vae"
    _optional_components: ClassVar[list[str]] = ["safety_checker", "feature_extractor", "image_encoder"]
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["safety_checker"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        check_diffusers(
            diffusers.__version__
        )  # also where a custom pipeline's file is all there is of this package
        super().__init_subclass__(**kwargs)
        init: Any = StableDiffusionComponents.__init__
        # a copy, so that Python's messages name the class that people call
        if inspect.unwrap(cls.__init__) is init:
            own = FunctionType(init.__code__, init.__globals__, None, init.__defaults__, init.__closure__)
            functools.update_wrapper(own, init)
            own.__qualname__ = f"{cls.__qualname__}.__init__"
            cls.__init__ = own  # type: ignore[method-assign]

    # what callbacks read and, to end or change guidance, set, as everywhere in diffusers
    num_timesteps = OfTheCall("num_timesteps")
    guidance_scale = OfTheCall("guidance_scale")
    guidance_rescale = OfTheCall("guidance_rescale")
    do_classifier_free_guidance = OfTheCall("do_classifier_free_guidance")
    clip_skip = OfTheCall("clip_skip")
    cross_attention_kwargs = OfTheCall("cross_attention_kwargs")
    _num_timesteps = OfTheCall("num_timesteps")
    _guidance_scale = OfTheCall("guidance_scale", may_change=True)
    _guidance_rescale = OfTheCall("guidance_rescale")
    _clip_skip = OfTheCall("clip_skip")
    _cross_attention_kwargs = OfTheCall("cross_attention_kwargs")

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
        if isinstance(image_encoder, (tuple, list)):
            # what `DiffusionPipeline.from_pipe(pipe, custom_pipeline=...)` hands over is the entry of the config
            if image_encoder[0] is not None:
                logger.warning(
                    "diffusers did not hand over the `image_encoder`. If it is needed, pass "
                    "`image_encoder=pipe.image_encoder` to `from_pipe` too."
                )
            image_encoder = None
        if getattr(scheduler, "config", {}).get("steps_offset", 1) != 1:
            # as StableDiffusionPipeline does, or else one model would have one schedule there and another one here; in
            # a copy, as others may use this one
            scheduler = copy.copy(scheduler)
            scheduler.register_to_config(steps_offset=1)
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
            image_encoder=image_encoder,
        )
        blocks = len(vae.config.block_out_channels) if vae is not None else 4
        self.vae_scale_factor = 2 ** (blocks - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._interrupt = False
        self.register_to_config(requires_safety_checker=requires_safety_checker)

    def _denoiser(self: Any, arguments: Mapping[str, Any]) -> StableDiffusionDenoiser:
        """The loaded model for one call, checked, with what the call's arguments tell it."""
        denoiser = StableDiffusionDenoiser(self)
        denoiser.check()
        return replace(
            denoiser,
            cross_attention_kwargs=read_attention_kwargs(arguments["cross_attention_kwargs"]),
            clip_skip=read_clip_skip(self.text_encoder, arguments.get("clip_skip")),
        )

    def _censored(self: Any, images: torch.Tensor) -> tuple[torch.Tensor, list[bool] | None]:
        """Pictures, those black that the safety checker flags, and its flags."""
        if self.safety_checker is None:
            return images, None
        # the VAE may be in a wider one than all else
        dtype = getattr(self.safety_checker, "dtype", self.vae.dtype)
        _, flags = self.run_safety_checker(2 * images - 1, images.device, dtype)
        safe = torch.tensor([not flag for flag in flags], device=images.device)
        return images * safe[:, None, None, None], flags

    @property
    def interrupt(self: Any) -> bool:
        """Set `_interrupt` from a callback to stop decoding after the current step, as elsewhere in diffusers."""
        return self._interrupt

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load a model; see [`DiffusionPipeline.from_pretrained`].

        Raises:
            ValueError: Naming what it is, if it is of another family.
        """
        name = pretrained_model_name_or_path
        where: dict[str, Any] = {key: kwargs[key] for key in ("cache_dir", "revision") if key in kwargs}
        if os.path.isdir(name) and (reason := cls._unserved(name, where)):
            raise ValueError(reason)
        try:
            return super().from_pretrained(name, **kwargs)  # type: ignore[misc]
        except ValueError as error:  # which says what the loader missed in a repository
            if reason := cls._unserved(name, where):
                raise ValueError(reason) from error
            raise

    @classmethod
    def _unserved(cls: Any, name: Any, where: dict[str, Any]) -> str:
        """Why a model on this machine cannot be used, or "" if nothing speaks against it."""
        try:
            with warnings.catch_warnings():
                # an argument of diffusers' own, which huggingface_hub calls deprecated
                warnings.filterwarnings("ignore", "The `local_dir_use_symlinks`")
                reason = unserved_folder(cls.load_config(name, local_files_only=True, **where))
        except (OSError, ValueError, KeyError):
            return ""
        return reason and f"{str(name)!r} {reason} by {cls.__name__}."

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """A pipeline of another one's components; see [`DiffusionPipeline.from_pipe`].

        Raises:
            ValueError: If the other one is of another family of models.
        """
        components = getattr(pipeline, "components", None)  # else it is no pipeline, and refused below
        if components and (
            reason := unserved(type(pipeline).__name__, components, type(components.get("unet")).__name__)
        ):
            raise ValueError(f"`pipeline` {reason} by {cls.__name__}.")
        return super().from_pipe(pipeline, **kwargs)  # type: ignore[misc]

    def load_ip_adapter(self, *_args: Any, **_kwargs: Any) -> None:
        """Refused: prompts alone say what an edit is.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} takes no IP-Adapter, whose picture would be a third thing to tell the UNet beside "
            "the two prompts; load it into a StableDiffusionPipeline, and say what is wanted in `prompt` here."
        )

    def to_json_string(self: Any) -> str:
        """The config as `save_pretrained` writes it: of a StableDiffusionPipeline, which is what the files are.

        So `DiffusionPipeline.from_pretrained` and everybody else can load them; diffusers knows no class of ours by its
        name.
        """
        config = json.loads(super().to_json_string())  # type: ignore[misc]
        config["_class_name"] = "StableDiffusionPipeline"
        return json.dumps(config, indent=2, sort_keys=True) + "\n"
