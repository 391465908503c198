"""The pipelines that users call, and the parts of them that a comparison of methods needs."""

from semantic_edit.pipelines.around import pipeline_around
from semantic_edit.pipelines.checks import levels_for
from semantic_edit.pipelines.confining import AUTOMATIC
from semantic_edit.pipelines.diffedit import DiffEditPipeline
from semantic_edit.pipelines.diffedit_flux import FluxDiffEditPipeline
from semantic_edit.pipelines.diffedit_flux2_klein import Flux2KleinDiffEditPipeline
from semantic_edit.pipelines.diffedit_qwen import QwenImageDiffEditPipeline
from semantic_edit.pipelines.diffedit_sd3 import StableDiffusion3DiffEditPipeline
from semantic_edit.pipelines.diffedit_xl import StableDiffusionXLDiffEditPipeline
from semantic_edit.pipelines.diffedit_z_image import ZImageDiffEditPipeline
from semantic_edit.pipelines.images import opaque_rgb, read_images
from semantic_edit.pipelines.outputs import (
    AttentionMapsOutput,
    DiffEditInversionPipelineOutput,
    DiffEditMaskOutput,
    DiffEditPipelineOutput,
    StyleDiffusionPipelineOutput,
)
from semantic_edit.pipelines.presets import PRESETS
from semantic_edit.pipelines.restyling import Restyling, restyle
from semantic_edit.pipelines.stages import Session
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline
from semantic_edit.pipelines.stylediffusion_xl import StableDiffusionXLStyleDiffusionPipeline
from semantic_edit.pipelines.words import RestyleSettings, read_prompt_rows

__all__ = [
    "AUTOMATIC",
    "PRESETS",
    "AttentionMapsOutput",
    "DiffEditInversionPipelineOutput",
    "DiffEditMaskOutput",
    "DiffEditPipeline",
    "DiffEditPipelineOutput",
    "Flux2KleinDiffEditPipeline",
    "FluxDiffEditPipeline",
    "QwenImageDiffEditPipeline",
    "RestyleSettings",
    "Restyling",
    "Session",
    "StableDiffusion3DiffEditPipeline",
    "StableDiffusionXLDiffEditPipeline",
    "StableDiffusionXLStyleDiffusionPipeline",
    "StyleDiffusionPipeline",
    "StyleDiffusionPipelineOutput",
    "ZImageDiffEditPipeline",
    "levels_for",
    "opaque_rgb",
    "pipeline_around",
    "read_images",
    "read_prompt_rows",
    "restyle",
]
