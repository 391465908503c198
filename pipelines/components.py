"""What the pipelines of all families have in common: how they load, and what callbacks find on them."""

from __future__ import annotations

import functools
import inspect
import json
import os
import warnings
from types import FunctionType
from typing import Any, ClassVar

import diffusers
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import logging

from semantic_edit.disk.models import Family, family_of_pipeline, unserved, unserved_folder
from semantic_edit.pipelines.calls import OfTheCall
from semantic_edit.pipelines.versions import check_diffusers

logger = logging.get_logger(__name__)


def handed_over(name: str, component: Any) -> Any:
    """A component that defaults to `None`, as `DiffusionPipeline.from_pipe(pipe, custom_pipeline=...)` passes it: that
    passes the entry of the config instead of the component."""
    if not isinstance(component, (tuple, list)):
        return component
    if component[0] is not None:
        logger.warning(
            f"diffusers did not pass on the `{name}`. If it is needed, pass `{name}=pipe.{name}` to `from_pipe` too."
        )
    return None


WITH_POOLED_EMBEDS = [
    "latents",
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
]
"""What callbacks may ask for in families with pooled embeddings."""


class Uncensored:
    """What families without a safety checker have in its place."""

    def _censored(self, images: torch.Tensor) -> tuple[torch.Tensor, list[bool] | None]:
        """Images as they are."""
        return images, None


class EditComponents:
    """Base class of each family's components, from which pipelines inherit before `DiffusionPipeline`.

    It is not a pipeline itself: diffusers loads custom code only if it finds exactly one pipeline in it.

    Attributes:
        _family: The family of models that can be used.
    """

    _family: ClassVar[Family]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        check_diffusers(
            diffusers.__version__
        )  # also if only a custom pipeline's file is there, and not this package
        super().__init_subclass__(**kwargs)
        init: Any = inspect.unwrap(cls.__init__)
        families = (base for base in cls.__mro__ if EditComponents in base.__bases__ and base is not cls)
        # a copy, so that Python's error messages name the class that users call
        if any(init is vars(base).get("__init__") for base in families):
            own = FunctionType(init.__code__, init.__globals__, None, init.__defaults__, init.__closure__)
            functools.update_wrapper(own, init)
            own.__qualname__ = f"{cls.__qualname__}.__init__"
            cls.__init__ = own  # type: ignore[method-assign]

    # what callbacks read, and set to end or change guidance, as everywhere in diffusers
    num_timesteps = OfTheCall("num_timesteps")
    guidance_scale = OfTheCall("guidance_scale")
    guidance_rescale = OfTheCall("guidance_rescale")
    do_classifier_free_guidance = OfTheCall("do_classifier_free_guidance")
    clip_skip = OfTheCall("clip_skip")
    cross_attention_kwargs = OfTheCall("cross_attention_kwargs")
    joint_attention_kwargs = OfTheCall("cross_attention_kwargs")
    _num_timesteps = OfTheCall("num_timesteps")
    _guidance_scale = OfTheCall("guidance_scale", may_change=True)
    _guidance_rescale = OfTheCall("guidance_rescale")
    _clip_skip = OfTheCall("clip_skip")
    _cross_attention_kwargs = OfTheCall("cross_attention_kwargs")

    def _take_modules(self: Any, **modules: Any) -> None:
        """Register a pipeline's modules, and set up what all pipelines have."""
        self.register_modules(**modules)
        self.vae_scale_factor = 2 ** self._halvings(modules["vae"])
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._interrupt = False

    @staticmethod
    def _halvings(vae: Any) -> int:
        """How often a VAE halves a picture's sides."""
        return 3 if vae is None else len(vae.config.block_out_channels) - 1

    @property
    def interrupt(self: Any) -> bool:
        """Set `_interrupt` from a callback to stop decoding after the current step, as elsewhere in diffusers."""
        return self._interrupt

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load a model; see [`DiffusionPipeline.from_pretrained`].

        Raises:
            ValueError: If the model is of another family; says which.
        """
        name = pretrained_model_name_or_path
        where: dict[str, Any] = {key: kwargs[key] for key in ("cache_dir", "revision") if key in kwargs}
        if os.path.isdir(name) and (reason := cls._unserved(name, where)):
            raise ValueError(reason)
        try:
            return super().from_pretrained(name, **kwargs)  # type: ignore[misc]
        except ValueError as error:  # says only what the loader did not find in a repository
            if reason := cls._unserved(name, where):
                raise ValueError(reason) from error
            raise

    @classmethod
    def _unserved(cls: Any, name: Any, where: dict[str, Any]) -> str:
        """Why a model on this machine cannot be used, or "" if no reason is known."""
        try:
            with warnings.catch_warnings():
                # diffusers itself passes this argument, which huggingface_hub calls deprecated
                warnings.filterwarnings("ignore", "The `local_dir_use_symlinks`")
                reason = unserved_folder(
                    cls.load_config(name, local_files_only=True, **where), (cls.__name__, cls._family)
                )
        except (OSError, ValueError, KeyError):
            return ""
        return reason and f"{str(name)!r} {reason}."

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """Make a pipeline from another one's components; see [`DiffusionPipeline.from_pipe`].

        Raises:
            ValueError: If the other pipeline is of another family of models.
        """
        if getattr(pipeline, "components", None):  # if there are none, diffusers raises below
            found = family_of_pipeline(pipeline)
            if reason := unserved(type(pipeline).__name__, found, (cls.__name__, cls._family)):
                raise ValueError(f"`pipeline` {reason}.")
        return super().from_pipe(pipeline, **kwargs)  # type: ignore[misc]

    def load_ip_adapter(self, *_args: Any, **_kwargs: Any) -> None:
        """Not supported: edits are described by prompts only.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} takes no IP-Adapter, because its image would condition the model in addition to "
            f"the two prompts; describe what you want in `prompt` instead."
        )

    def load_textual_inversion(self: Any, *args: Any, **kwargs: Any) -> None:
        """Teach the text encoder new words; see [`StableDiffusionPipeline.load_textual_inversion`].

        Raises:
            NotImplementedError: If diffusers has none for this family.
        """
        loader = getattr(super(), "load_textual_inversion", None)
        if loader is None:
            raise NotImplementedError(
                f"{type(self).__name__} takes no textual inversions: diffusers' {self._family.pipeline} has none for "
                f"the text encoders of {self._family.title} either. Load a LoRA of what you want to name, by "
                "`load_lora_weights`."
            )
        loader(*args, **kwargs)

    def to_json_string(self: Any) -> str:
        """The config as `save_pretrained` writes it: under the name of diffusers' own pipeline, which these files
        belong to.

        So `DiffusionPipeline.from_pretrained` and other programs can load them; diffusers does not know our classes by
        name.
        """
        config = json.loads(super().to_json_string())  # type: ignore[misc]
        config["_class_name"] = self._family.pipeline
        return json.dumps(config, indent=2, sort_keys=True) + "\n"
