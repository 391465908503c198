"""What users call."""

from semantic_edit.pipelines.diffedit import DiffEditPipeline
from semantic_edit.pipelines.outputs import DiffEditInversionPipelineOutput, DiffEditPipelineOutput

__all__ = ["DiffEditInversionPipelineOutput", "DiffEditPipeline", "DiffEditPipelineOutput"]
