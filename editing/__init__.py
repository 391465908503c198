"""The numerics of an edit, as pure functions of a schedule and of a denoising model that only predicts."""

from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import FiniteWatch, at_step, check_finite
from semantic_edit.editing.flow_edit import FlowEditWalk, GuidedSide, flow_edit
from semantic_edit.editing.guidance import (
    Guidance,
    Predictor,
    PromptPair,
    classifier_free_guidance,
    predict_guided,
    rescale_guidance,
)
from semantic_edit.editing.inversion import (
    StepHooks,
    Walk,
    ddim_inverse_step,
    ddim_step,
    decode_latents,
    invert_latents,
    predicting,
)
from semantic_edit.editing.mask_shapes import (
    MaskShape,
    feather_mask,
    grow_mask,
    mask_to_latents,
    mask_to_tensor,
    resize_mask,
    shape_mask,
)
from semantic_edit.editing.masking import (
    Batches,
    MaskResult,
    NoiseContrast,
    NoisedImages,
    draw_mask_noise,
    find_mask,
    noise_difference,
    otsu_cut,
    outline_mask,
    rescale_difference,
    shift_coherence,
)
from semantic_edit.editing.refinement import drawn_mask, followed_mask, guided_filter
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.similarity import ssim_map
from semantic_edit.editing.stitching import eight_bits
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.editing.tuning import EditTuning

__all__ = [
    "Batches",
    "Conditioning",
    "EditTuning",
    "FiniteWatch",
    "FlowEditWalk",
    "Guidance",
    "GuidedSide",
    "MaskResult",
    "MaskShape",
    "NoiseContrast",
    "NoisedImages",
    "Predictor",
    "PromptPair",
    "Schedule",
    "StepHooks",
    "Trajectory",
    "Walk",
    "at_step",
    "check_finite",
    "classifier_free_guidance",
    "ddim_inverse_step",
    "ddim_step",
    "decode_latents",
    "draw_mask_noise",
    "drawn_mask",
    "eight_bits",
    "feather_mask",
    "find_mask",
    "flow_edit",
    "followed_mask",
    "grow_mask",
    "guided_filter",
    "invert_latents",
    "mask_to_latents",
    "mask_to_tensor",
    "noise_difference",
    "otsu_cut",
    "outline_mask",
    "predict_guided",
    "predicting",
    "rescale_difference",
    "rescale_guidance",
    "resize_mask",
    "shape_mask",
    "shift_coherence",
    "ssim_map",
]
