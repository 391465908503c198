"""Text-driven edits of real pictures, as pipelines for Hugging Face diffusers."""

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semantic_edit.editing import Trajectory
    from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
    from semantic_edit.pipelines import (
        DiffEditPipeline,
        DiffEditPipelineOutput,
        StableDiffusionXLDiffEditPipeline,
        StableDiffusionXLStyleDiffusionPipeline,
        StyleDiffusionPipeline,
        StyleDiffusionPipelineOutput,
    )

__version__ = "0.1.0"
__all__ = [
    "DiffEditPipeline",
    "DiffEditPipelineOutput",
    "LearningSettings",
    "MappingNetwork",
    "StableDiffusionXLDiffEditPipeline",
    "StableDiffusionXLStyleDiffusionPipeline",
    "StyleDiffusionPipeline",
    "StyleDiffusionPipelineOutput",
    "Trajectory",
    "__version__",
]

_HOME = {
    "DiffEditPipeline": "semantic_edit.pipelines",
    "DiffEditPipelineOutput": "semantic_edit.pipelines",
    "LearningSettings": "semantic_edit.mapping_networks",
    "MappingNetwork": "semantic_edit.mapping_networks",
    "StableDiffusionXLDiffEditPipeline": "semantic_edit.pipelines",
    "StableDiffusionXLStyleDiffusionPipeline": "semantic_edit.pipelines",
    "StyleDiffusionPipeline": "semantic_edit.pipelines",
    "StyleDiffusionPipelineOutput": "semantic_edit.pipelines",
    "Trajectory": "semantic_edit.editing",
}


def __getattr__(name: str) -> object:
    # torch and diffusers take seconds to import, and this file runs before every room and every `--help`.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """False for transformers' news, at every start, that its image processors do without torchvision: so they shall."""
    return "requires torchvision (not installed); falling back" not in record.getMessage()


logging.getLogger("transformers.utils.import_utils").addFilter(_is_worth_saying)
