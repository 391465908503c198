"""What is measured of an edit, and of a reconstruction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.datasets import EditItem
from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.method import vae_reconstruction
from semantic_edit.evaluation.metrics import iou, psnr, seam
from semantic_edit.evaluation.metrics.edit_metrics import EditMetric
from semantic_edit.evaluation.rows import Row

MASK_IOU = "mask_iou"
SEAM = "seam"
OF_MASKS = (MASK_IOU, SEAM)


def measured_edit(
    metrics: Sequence[EditMetric], item: EditItem, picture: Image.Image, mask: np.ndarray | None
) -> Row:
    """Each metric's value, or `None` if the item lacks what it needs.

    For a mask that a method found, also its IoU and, if the perfect edit is known, the seam along its outline.
    """
    values: Row = {metric.name: metric(item, picture) for metric in metrics}
    truth = item.region if mask is not None else None
    if mask is not None and truth is not None:
        values[MASK_IOU] = iou(mask, truth)
    if mask is not None and item.case is not None:
        along = seam(picture, item.case.image, item.case.target_image, mask)
        values[SEAM] = None if math.isnan(along) else along
    return values


def measured_reconstruction(pipe: DiffusionPipeline, image: Image.Image, reconstruction: np.ndarray) -> Row:
    """PSNR in dB to the VAE's reconstruction, to the picture, and between these two."""
    best = vae_reconstruction(denoiser_of(pipe), image)
    return {
        "to_vae": psnr(reconstruction, best),
        "to_picture": psnr(reconstruction, image),
        "vae_to_picture": psnr(best, image),
    }
