"""What StyleDiffusion learns from a picture, and how it learns it. No UNet here: learning is given a denoiser."""

from semantic_edit.mapping_networks.archive import pack_network, unpack_network
from semantic_edit.mapping_networks.card import model_card
from semantic_edit.mapping_networks.checkpoint import check_checkpoint
from semantic_edit.mapping_networks.config import check_config
from semantic_edit.mapping_networks.learning import learn_mappings
from semantic_edit.mapping_networks.mapping import (
    VARIANTS,
    initial_parameters,
    mapping_forward,
    parameter_shapes,
    value_embeds_of,
)
from semantic_edit.mapping_networks.network import MappingNetwork
from semantic_edit.mapping_networks.problem import LearningDenoiser, LearningInputs, LearningOptions
from semantic_edit.mapping_networks.report import LearningReport, LearningResult, StepReport
from semantic_edit.mapping_networks.settings import LearningSettings
from semantic_edit.mapping_networks.updates import ActiveImages

__all__ = [
    "VARIANTS",
    "ActiveImages",
    "LearningDenoiser",
    "LearningInputs",
    "LearningOptions",
    "LearningReport",
    "LearningResult",
    "LearningSettings",
    "MappingNetwork",
    "StepReport",
    "check_checkpoint",
    "check_config",
    "initial_parameters",
    "learn_mappings",
    "mapping_forward",
    "model_card",
    "pack_network",
    "parameter_shapes",
    "unpack_network",
    "value_embeds_of",
]
