"""What the SDXL denoiser trains on: the pool's pictures, and some of them again as if they had been small."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from semantic_edit.still_life.scenes import Scene
from training.denoising import LatentPool
from training.pool import pool_coverage, pool_scenes
from training.still_life.vae import pool_latents

REDUCTIONS = (4, 8)
SHARE = 12  # one picture in so many is there again for each reduction


@dataclass(frozen=True, eq=False)
class ScenePool:
    """Images, the scene of each, and what it was scaled down by, and up again: whole numbers, (pictures,)."""

    images: LatentPool
    scenes: list[Scene]
    reductions: torch.Tensor


def scene_pool(vae: AutoencoderKL, folder: Path, count: int) -> ScenePool:
    """Render and encode the training split's first `count` scenes into `folder`, or find them there."""
    few = -(-count // SHARE)
    latents = [pool_latents(vae, folder, count)]
    latents += [pool_latents(vae, folder, count, few, reduction) for reduction in REDUCTIONS]
    coverage, scenes = pool_coverage(folder / "pictures", "train", count), pool_scenes("train", count)
    again = len(REDUCTIONS)
    return ScenePool(
        LatentPool(torch.cat(latents), torch.cat([coverage, *[coverage[:few]] * again])),
        scenes + scenes[:few] * again,
        torch.cat([torch.ones(count), *(torch.full((few,), one) for one in REDUCTIONS)]).long(),
    )
