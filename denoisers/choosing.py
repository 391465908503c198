"""Find out which family a loaded pipeline belongs to."""

from __future__ import annotations

from typing import Any

from semantic_edit.denoisers.stable_diffusion import StableDiffusionDenoiser
from semantic_edit.denoisers.stable_diffusion_xl import StableDiffusionXLDenoiser
from semantic_edit.denoisers.unet import UNetDenoiser


def denoiser_of(pipe: Any) -> UNetDenoiser:
    """The denoiser of a loaded pipeline, chosen by its components: Stable Diffusion XL has a second text encoder.

    The model itself is not checked; see [`Denoiser.check`].

    Args:
        pipe: Any text-to-image pipeline of diffusers or of this package; it is only read.

    Raises:
        ValueError: If it has no UNet.
    """
    if not hasattr(pipe, "unet"):
        raise ValueError(
            f"`pipe` must be a pipeline of Stable Diffusion 1.x, 2.x or XL, got a {type(pipe).__name__}, which has no "
            "`unet`. Load one of these models, for example with `StableDiffusionPipeline.from_pretrained`."
        )
    return (
        StableDiffusionXLDenoiser(pipe) if hasattr(pipe, "text_encoder_2") else StableDiffusionDenoiser(pipe)
    )
