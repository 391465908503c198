"""Models that consist of the same parts as those that are served, and do something else: told by their pipelines."""

from __future__ import annotations

_CONTROLNET = "whose ControlNet an edit would not follow; pass the model without it, as a {}"
_INSTRUCTED = "which follows instructions about an image that its transformer reads; use {} instead"

SIBLINGS = {
    "StableDiffusion3ControlNet": _CONTROLNET.format("StableDiffusion3Pipeline"),
    "FluxControlNet": _CONTROLNET.format("FluxPipeline"),
    "FluxControl": "whose transformer reads a control image beside the latents; use FLUX.1 dev or schnell instead",
    "FluxFill": "whose transformer reads an image and a mask beside the latents; use FLUX.1 dev or schnell instead",
    "FluxKontext": _INSTRUCTED.format("FLUX.1 dev or schnell"),
    "VisualCloze": "whose transformer reads images and masks beside the latents; use FLUX.1 dev or schnell instead",
    "QwenImageControlNet": _CONTROLNET.format("QwenImagePipeline"),
    "QwenImageEdit": _INSTRUCTED.format("Qwen-Image"),
    "QwenImageLayered": "which paints several layers at once; use Qwen-Image instead",
    "ZImageControlNet": _CONTROLNET.format("ZImagePipeline"),
    "ZImageOmni": "whose transformer reads images beside the text; use Z-Image instead",
}
"""Why they cannot be used, by the beginning of their classes' names; the first that fits counts."""


def why_sibling(pipeline: str) -> str:
    """Why the models of one of diffusers' pipelines cannot be used although the parts are known, or ""."""
    return next((why for name, why in SIBLINGS.items() if pipeline.startswith(name)), "")
