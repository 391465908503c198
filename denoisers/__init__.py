"""What an edit needs to know of a model family: one file per family, and all that evaluates its networks."""

from semantic_edit.denoisers.choosing import denoiser_of, unet_denoiser_of
from semantic_edit.denoisers.denoiser import FLOW_EDIT, FRESH_NOISE, INVERSION, Denoiser
from semantic_edit.denoisers.prompts import Prompt, PromptInput
from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.denoisers.stable_diffusion import StableDiffusionDenoiser
from semantic_edit.denoisers.stable_diffusion_3 import StableDiffusion3Denoiser
from semantic_edit.denoisers.stable_diffusion_xl import StableDiffusionXLDenoiser
from semantic_edit.denoisers.unet import UNetDenoiser

__all__ = [
    "FLOW_EDIT",
    "FRESH_NOISE",
    "INVERSION",
    "Denoiser",
    "Prompt",
    "PromptInput",
    "StableDiffusion3Denoiser",
    "StableDiffusionDenoiser",
    "StableDiffusionXLDenoiser",
    "UNetDenoiser",
    "denoiser_of",
    "schedule_from_scheduler",
    "unet_denoiser_of",
]
