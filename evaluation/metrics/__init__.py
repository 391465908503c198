"""What is measured of edits: pixels, features, agreement with words, sets of pictures, and how sure a mean is.

`edit_metrics` builds the measures of single edits by name; `SetMetrics` compares sets of them, by FID and CSFID.
Published networks are loaded from the user's caches, with the packages that `pip install
"diffusers-semantic-edit[evaluation]"` installs; nothing is downloaded.
"""

from __future__ import annotations

from semantic_edit.evaluation.metrics.csfid import class_mean_distance, csfid
from semantic_edit.evaluation.metrics.edit_metrics import (
    ALWAYS,
    JUDGE,
    OPTIONAL,
    EditMetric,
    edit_metrics,
)
from semantic_edit.evaluation.metrics.fid import fid, frechet_distance
from semantic_edit.evaluation.metrics.intervals import (
    bootstrap_interval,
    bootstrap_samples,
    quantile_interval,
    standard_error,
)
from semantic_edit.evaluation.metrics.iou import iou
from semantic_edit.evaluation.metrics.nearest import nearest_alternative
from semantic_edit.evaluation.metrics.remains import leftover, seam, surroundings
from semantic_edit.evaluation.metrics.set_metrics import SET_METRICS, SetMetrics
from semantic_edit.evaluation.metrics.similarity import as_floats, psnr, ssim
from semantic_edit.evaluation.metrics.structure import patch_features, structure_distance
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable

__all__ = [
    "ALWAYS",
    "JUDGE",
    "OPTIONAL",
    "SET_METRICS",
    "EditMetric",
    "MetricUnavailable",
    "SetMetrics",
    "as_floats",
    "bootstrap_interval",
    "bootstrap_samples",
    "class_mean_distance",
    "csfid",
    "edit_metrics",
    "fid",
    "frechet_distance",
    "iou",
    "leftover",
    "nearest_alternative",
    "patch_features",
    "psnr",
    "quantile_interval",
    "seam",
    "ssim",
    "standard_error",
    "structure_distance",
    "surroundings",
]
