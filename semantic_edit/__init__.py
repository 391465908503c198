"""Text-driven edits of real pictures, as pipelines for Hugging Face diffusers."""

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semantic_edit.auto import load
    from semantic_edit.editing import Trajectory
    from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
    from semantic_edit.pipelines import (
        DiffEditPipeline,
        DiffEditPipelineOutput,
        Flux2KleinDiffEditPipeline,
        FluxDiffEditPipeline,
        QwenImageDiffEditPipeline,
        StableDiffusion3DiffEditPipeline,
        StableDiffusionXLDiffEditPipeline,
        StableDiffusionXLStyleDiffusionPipeline,
        StyleDiffusionPipeline,
        StyleDiffusionPipelineOutput,
        ZImageDiffEditPipeline,
    )

__version__ = "0.1.0"
__all__ = [
    "DiffEditPipeline",
    "DiffEditPipelineOutput",
    "Flux2KleinDiffEditPipeline",
    "FluxDiffEditPipeline",
    "LearningSettings",
    "MappingNetwork",
    "QwenImageDiffEditPipeline",
    "StableDiffusion3DiffEditPipeline",
    "StableDiffusionXLDiffEditPipeline",
    "StableDiffusionXLStyleDiffusionPipeline",
    "StyleDiffusionPipeline",
    "StyleDiffusionPipelineOutput",
    "Trajectory",
    "ZImageDiffEditPipeline",
    "__version__",
    "load",
]

_PLACES = ("editing", "mapping_networks", "pipelines", "auto")  # each needs those before it


def __getattr__(name: str) -> object:
    # torch and diffusers take seconds to import, and this file runs before every room and every `--help`.
    for place in _PLACES if name in __all__ else ():
        module = importlib.import_module(f"{__name__}.{place}")
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """False for transformers' message, at every start, that its image processors do without torchvision."""
    return "requires torchvision (not installed); falling back" not in record.getMessage()


logging.getLogger("transformers.utils.import_utils").addFilter(_is_worth_saying)
