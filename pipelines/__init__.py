"""What users call."""

from semantic_edit.pipelines.diffedit import DiffEditPipeline
from semantic_edit.pipelines.outputs import (
    DiffEditInversionPipelineOutput,
    DiffEditPipelineOutput,
    StyleDiffusionPipelineOutput,
)
from semantic_edit.pipelines.pictures import opaque_rgb
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline

__all__ = [
    "DiffEditInversionPipelineOutput",
    "DiffEditPipeline",
    "DiffEditPipelineOutput",
    "StyleDiffusionPipeline",
    "StyleDiffusionPipelineOutput",
    "opaque_rgb",
]
