"""Find out which family a loaded pipeline belongs to."""

from __future__ import annotations

from typing import Any

from semantic_edit.denoisers.flux import FluxDenoiser
from semantic_edit.denoisers.flux2_klein import Flux2KleinDenoiser
from semantic_edit.denoisers.latent import LatentDenoiser
from semantic_edit.denoisers.qwen_image import QwenImageDenoiser
from semantic_edit.denoisers.stable_diffusion import StableDiffusionDenoiser
from semantic_edit.denoisers.stable_diffusion_3 import StableDiffusion3Denoiser
from semantic_edit.denoisers.stable_diffusion_xl import StableDiffusionXLDenoiser
from semantic_edit.denoisers.unet import UNetDenoiser
from semantic_edit.denoisers.z_image import ZImageDenoiser
from semantic_edit.disk.models import ONLY_SERVED, family_of_modules

DENOISERS: tuple[type[LatentDenoiser], ...] = (
    StableDiffusionDenoiser,
    StableDiffusionXLDenoiser,
    StableDiffusion3Denoiser,
    FluxDenoiser,
    QwenImageDenoiser,
    ZImageDenoiser,
    Flux2KleinDenoiser,
)


def denoiser_of(pipe: Any) -> LatentDenoiser:
    """The denoiser of a loaded pipeline, chosen by its components.

    The model itself is not checked; see [`Denoiser.check`].

    Args:
        pipe: Any text-to-image pipeline of diffusers or of this package; it is only read.

    Raises:
        ValueError: If it is of a family that is not served.
    """
    found = family_of_modules(getattr(pipe, "components", {}))
    kind = next((one for one in DENOISERS if one.family == found), None)
    if kind is None:
        raise ValueError(
            f"`pipe` is a {type(pipe).__name__}, and {ONLY_SERVED}. Load one of these models, for example with "
            "`StableDiffusionPipeline.from_pretrained`."
        )
    return kind(pipe)


def unet_denoiser_of(pipe: Any) -> UNetDenoiser:
    """The same of a pipeline that has a UNet.

    Raises:
        ValueError: If it has none.
    """
    denoiser = denoiser_of(pipe)
    if not isinstance(denoiser, UNetDenoiser):
        raise ValueError(
            f"`pipe` is a {type(pipe).__name__}, which has no UNet, and this needs a UNet's cross-attention. Load a "
            "model of Stable Diffusion 1.x, 2.x or XL."
        )
    return denoiser
