"""What users call."""

from semantic_edit.pipelines.diffedit import DiffEditPipeline
from semantic_edit.pipelines.diffedit_xl import StableDiffusionXLDiffEditPipeline
from semantic_edit.pipelines.outputs import (
    DiffEditInversionPipelineOutput,
    DiffEditPipelineOutput,
    StyleDiffusionPipelineOutput,
)
from semantic_edit.pipelines.pictures import opaque_rgb
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline
from semantic_edit.pipelines.stylediffusion_xl import StableDiffusionXLStyleDiffusionPipeline

__all__ = [
    "DiffEditInversionPipelineOutput",
    "DiffEditPipeline",
    "DiffEditPipelineOutput",
    "StableDiffusionXLDiffEditPipeline",
    "StableDiffusionXLStyleDiffusionPipeline",
    "StyleDiffusionPipeline",
    "StyleDiffusionPipelineOutput",
    "opaque_rgb",
]
