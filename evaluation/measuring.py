"""What is measured of an edit, and of a reconstruction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.datasets import EditItem
from semantic_edit.denoisers import Denoiser, denoiser_of
from semantic_edit.editing import mask_to_latents
from semantic_edit.evaluation.method import Edited, latents_of, vae_reconstruction
from semantic_edit.evaluation.metrics import iou, psnr, seam
from semantic_edit.evaluation.metrics.edit_metrics import MOST, EditMetric
from semantic_edit.evaluation.rows import Row

MASK_IOU = "mask_iou"
SEAM = "seam"
LATENTS_OUTSIDE = "latents_outside"
OF_MASKS = (MASK_IOU, SEAM)
OF_METHODS = (*OF_MASKS, LATENTS_OUTSIDE)


def measured_edit(
    pipe: DiffusionPipeline, metrics: Sequence[EditMetric], item: EditItem, edited: Edited
) -> Row:
    """Each metric's value, or `None` if the item lacks what it needs.

    For a mask that a method found, also its IoU and, if the perfect edit is known, the seam along its outline; for
    latents that it made, how well those outside the expected region were kept.
    """
    image, mask = edited.image, edited.mask
    values: Row = {metric.name: metric(item, image) for metric in metrics}
    truth = item.region if mask is not None else None
    if mask is not None and truth is not None:
        values[MASK_IOU] = iou(mask, truth)
    if mask is not None and item.case is not None:
        along = seam(image, item.case.image, item.case.target_image, mask)
        values[SEAM] = None if math.isnan(along) else along
    if edited.latents is not None and item.load_mask is not None:
        kept = latents_outside(denoiser_of(pipe), item.image, edited.latents, item.load_mask())
        values[LATENTS_OUTSIDE] = None if math.isnan(kept) else kept
    return values


def latents_outside(
    denoiser: Denoiser, image: Image.Image, latents: torch.Tensor, expected: np.ndarray
) -> float:
    """PSNR in dB of an edit's latents to the picture's own outside the region where the edit is expected.

    It is measured before any pixels of the picture are laid over the edit, so that it says what the method itself kept.
    A latent counts if none of its pixels is in the region. The peak is the range of the picture's latents.

    Args:
        denoiser: The model.
        image: The picture.
        latents: The edit's, (1, channels, height, width), clean.
        expected: The region, booleans (height, width) in pixels.

    Returns:
        At most `MOST`, which stands for latents that are exactly kept; NaN if no latent counts.
    """
    clean = latents_of(denoiser, [image])
    touched = mask_to_latents(torch.from_numpy(expected)[None, None].float(), denoiser.cell)[0, 0] > 0
    peak = clean.max() - clean.min()
    own, kept = ((one[0] / peak).movedim(0, -1).double().cpu().numpy() for one in (clean, latents))
    return min(psnr(kept, own, ~touched.numpy()), MOST)


def measured_reconstruction(pipe: DiffusionPipeline, image: Image.Image, reconstruction: np.ndarray) -> Row:
    """PSNR in dB to the VAE's reconstruction, at most `MOST`, to the picture, and between these two."""
    best = vae_reconstruction(denoiser_of(pipe), image)
    return {
        "to_vae": min(psnr(reconstruction, best), MOST),
        "to_picture": psnr(reconstruction, image),
        "vae_to_picture": psnr(best, image),
    }
