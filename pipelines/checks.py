"""What a call is held to before any work is done."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from semantic_edit.editing.schedule import Schedule

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds")


def check_model(pipe: Any) -> None:
    """Refuse a UNet that needs more than latents, a timestep and text, or another text encoder's text.

    Raises:
        ValueError: If the UNet is of another family (inpainting, SDXL, latent consistency, ...), an IP-Adapter is
            loaded, or the text encoder is of another width.
    """
    config, channels = pipe.unet.config, pipe.vae.config.latent_channels
    needs = None
    if config.get("encoder_hid_dim_type") == "ip_image_proj":
        needs = "an IP-Adapter's image; call `unload_ip_adapter()` on the pipeline that loaded it"
    elif config.in_channels != channels:
        needs = f"{config.in_channels} input channels where the VAE gives {channels}, as inpainting models do"
    elif config.get("time_cond_proj_dim") is not None:
        needs = "an embedded guidance scale, as latent consistency models do"
    elif config.get("addition_embed_type") is not None or config.get("encoder_hid_dim_type") is not None:
        needs = "further embeddings, as SDXL and Kandinsky do"
    elif config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        needs = "class labels, as upscalers do"
    if needs is not None:
        raise ValueError(f"This `unet` needs {needs}. Use a text-to-image Stable Diffusion 1.x or 2.x model.")
    width, encoder = config.cross_attention_dim, pipe.text_encoder
    widths = set(width) if isinstance(width, (list, tuple)) else {width}
    if encoder is not None and widths != {encoder.config.hidden_size}:
        raise ValueError(
            f"The `text_encoder` gives embeddings {encoder.config.hidden_size} wide, but the UNet's cross attention "
            f"takes {', '.join(map(str, sorted(widths)))}: they are of different models. Stable Diffusion 1.x has 768, "
            "2.x 1024. Load both from one model."
        )


def is_number(value: Any) -> bool:
    """Whether something is a finite real number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def check_fraction(name: str, value: Any, why: str, open_end: bool = False) -> None:
    """Refuse what is no number in (0, 1], or in (0, 1) with `open_end`."""
    if not is_number(value) or not 0 < value <= 1 or (open_end and value == 1):
        wanted = "lie strictly between 0 and 1" if open_end else "be greater than 0 and at most 1"
        raise ValueError(f"`{name}` must {wanted}, got {value!r}. {why}")


def check_count(name: str, value: Any, why: str) -> None:
    """Refuse what is no integer from 1 on."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer, got {value!r}. {why}")


def check_at_least_zero(name: str, value: Any, why: str) -> None:
    """Refuse what is no finite number from 0 on."""
    if not is_number(value) or value < 0:
        raise ValueError(f"`{name}` must be a number of at least 0, got {value!r}. {why}")


def check_guidance(guidance_scale: Any, guidance_rescale: Any = 0.0, guidance_stop: Any = 1.0) -> None:
    """Refuse guidance that is no number, or a rescale or an end of it outside [0, 1]."""
    check_at_least_zero("guidance_scale", guidance_scale, "Above 1 it guides; 5 to 7.5 is usual.")
    if not is_number(guidance_rescale) or not 0 <= guidance_rescale <= 1:
        raise ValueError(f"`guidance_rescale` must lie in [0, 1], got {guidance_rescale!r}; 0 is off.")
    if guidance_stop is not None and (not is_number(guidance_stop) or not 0 <= guidance_stop <= 1):
        raise ValueError(
            f"`guidance_stop` must lie in [0, 1], got {guidance_stop!r}. It is the fraction of the steps, from the "
            "noisy end, that are guided; 1 guides all."
        )


def check_mask_settings(
    num_maps_per_mask: Any,
    mask_encode_strength: Any,
    mask_thresholding_ratio: Any,
    mask_threshold: Any,
    mask_batch_size: Any,
) -> None:
    """Refuse settings with which no mask can be found."""
    check_count("num_maps_per_mask", num_maps_per_mask, "It is how many noises are averaged; 10 is usual.")
    check_fraction("mask_encode_strength", mask_encode_strength, "It is the noise to add; 0.3 to 0.6 works.")
    check_fraction(
        "mask_threshold",
        mask_threshold,
        "It cuts the mean noise difference after rescaling to [0, 1]; raise it for a smaller mask.",
        open_end=True,
    )
    check_count("mask_batch_size", mask_batch_size, "It is how many samples the UNet takes at once.")
    ratio = mask_thresholding_ratio
    if ratio is not None and (not is_number(ratio) or ratio <= 0):
        raise ValueError(
            f"`mask_thresholding_ratio` must be positive or None, got {ratio!r}. It clamps the noise "
            "difference at that multiple of its mean; None adapts to the map."
        )


def check_mask_shape(mask_grow: Any, mask_feather: Any) -> None:
    """Refuse what is no number of pixels."""
    if isinstance(mask_grow, bool) or not isinstance(mask_grow, numbers.Integral):
        raise ValueError(
            f"`mask_grow` must be an integer number of pixels, got {mask_grow!r}; negative numbers shrink "
            "the mask."
        )
    check_at_least_zero("mask_feather", mask_feather, "It blurs the mask's edge, in pixels; 0 is none.")


def levels_for(schedule: Schedule, name: str, strength: Any) -> int:
    """The number of levels that a strength covers, at least one.

    Raises:
        ValueError: If the strength is outside (0, 1], or covers less than one step.
    """
    check_fraction(name, strength, f"It is the part of {schedule.num_inference_steps} steps to go through.")
    levels = schedule.levels(strength)
    if levels < 1:
        raise ValueError(
            f"`{name}` {strength} of `num_inference_steps` {schedule.num_inference_steps} is less than one "
            "step; raise one of the two."
        )
    return levels


def check_decoding(eta: Any, latents: Any) -> None:
    """Refuse added noise, and say that diffusers' `latents` argument does nothing."""
    if eta != 0:
        raise ValueError(
            f"`eta` must be 0, got {eta!r}: with added noise the decoding would not lead back along the "
            "inversion."
        )
    if latents is not None:
        warnings.warn(
            "`latents` has no effect, as in diffusers' DiffEdit: decoding starts from the inverted picture.",
            stacklevel=4,
        )


def check_generator(generator: Any, batch_size: int) -> None:
    """Refuse anything but a generator, or a list with one for each edit."""
    generators = generator if isinstance(generator, list) else [generator]
    if generator is not None and not all(isinstance(one, torch.Generator) for one in generators):
        raise ValueError(
            f"`generator` must be a torch.Generator or a list of them, got {generator!r}; make one with "
            "`torch.Generator().manual_seed(seed)`."
        )
    if isinstance(generator, list) and len(generator) != batch_size:
        raise ValueError(
            f"`generator` holds {len(generator)} generators for {batch_size} edits; pass one for each, or a "
            "single one for all."
        )


def check_output_type(output_type: Any, allowed: tuple[str, ...] = OUTPUT_TYPES) -> None:
    """Refuse an unknown `output_type`."""
    if output_type not in allowed:
        raise ValueError(f"`output_type` must be one of {', '.join(allowed)}, got {output_type!r}.")


def check_callbacks(
    callback_on_step_end: Callable[..., Any] | None, tensor_inputs: Sequence[str], callback_steps: Any
) -> None:
    """Refuse callbacks that could not do what they are for."""
    check_count("callback_steps", callback_steps, "The callback is called every so many steps.")
    if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
        raise ValueError(
            f"{type(callback_on_step_end).__name__} is made for pipelines that keep the prompts of both branches in "
            "one tensor, and this one keeps them apart. Pass a function `(pipe, step, timestep, tensors) -> dict` as "
            "`callback_on_step_end`; there `pipe._guidance_scale = 1.0` ends guidance."
        )
    unknown = [name for name in tensor_inputs if name not in CALLBACK_TENSORS]
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` may name {', '.join(CALLBACK_TENSORS)}, got "
            f"{', '.join(unknown)}."
        )


def check_no_group_offload(**models: torch.nn.Module) -> None:
    """Refuse models that are offloaded in groups of layers, where gradients are needed."""
    for name, model in models.items():
        registries = (getattr(module, "_diffusers_hook", None) for module in model.modules())
        if any(one is not None and one.get_hook("group_offloading") is not None for one in registries):
            raise ValueError(
                f"`{name}` is group offloaded, which takes weights away that learning's gradients still need. Use "
                "`pipe.enable_model_cpu_offload()` instead."
            )
