"""The still-life model's autoencoder: 128x128 pictures as 16x16 latents of four channels."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional

from semantic_edit.disk.writing import write_file
from semantic_edit.still_life.pixels import as_pixels
from semantic_edit.still_life.rendering import SIDE
from training.loop import LoopSettings, device, train
from training.pool import pool_images

BATCH = 8
KL_WEIGHT = 1e-4
SETTINGS = LoopSettings(steps=5_400, learning_rate=2e-3, ema_decay=0.995)
DECODER_SETTINGS = LoopSettings(steps=6_000, learning_rate=1e-3, ema_decay=0.998, seed=1)


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 24, 48, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIDE,
    )


def reconstruction_loss(
    reconstruction: torch.Tensor, pixels: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mostly squared error, which minds stripes and handles more than grain, and the gradients' absolute error."""
    error = reconstruction.float() - pixels
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    squared = error.square().mean()
    return 0.3 * error.abs().mean() + 0.5 * edges + 10.0 * squared, {
        "psnr": 6.0206 - 10 * squared.log10().item()
    }


def train_vae(folder: Path, images: int, settings: LoopSettings = SETTINGS) -> AutoencoderKL:
    """Train encoder and decoder together, and set `scaling_factor` so that the latents' spread is one."""
    torch.manual_seed(settings.seed)
    vae = new_vae().to(device())
    pool = pool_images(folder / "pictures", "train", images)

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        pixels = _batch(pool, generator)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            mean, log_variance = vae.quant_conv(vae.encoder(pixels)).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-30, 20)
            noise = torch.randn(mean.shape, generator=generator).to(mean.device)
            latents = mean + (0.5 * log_variance).exp() * noise
            reconstruction = vae.decoder(vae.post_quant_conv(latents))
        fit, figures = reconstruction_loss(reconstruction, pixels)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return fit + KL_WEIGHT * divergence, {**figures, "kl": divergence.item()}

    train(vae, loss, settings, folder / "vae")
    vae.register_to_config(scaling_factor=round(1.0 / _spread(vae, pool), 5))
    return vae


def polish_decoder(
    vae: AutoencoderKL, folder: Path, images: int, settings: LoopSettings = DECODER_SETTINGS
) -> None:
    """Train the decoder on, with the encoder and so the latents left exactly as they are."""
    vae.to(device()).requires_grad_(False)
    decoder = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder}).requires_grad_(
        True
    )
    pool = pool_images(folder / "pictures", "train", images)

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        pixels = _batch(pool, generator)
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mode()
        with torch.autocast(pixels.device.type, torch.bfloat16):
            reconstruction = vae.decoder(vae.post_quant_conv(latents))
        return reconstruction_loss(reconstruction, pixels)

    train(decoder, loss, settings, folder / "vae-decoder")
    vae.requires_grad_(True)


@torch.no_grad()
def pool_latents(
    vae: AutoencoderKL, folder: Path, images: int, count: int | None = None, reduction: int = 1
) -> torch.Tensor:
    """Scaled latents (the posterior's mode) of the training pool, float16, (count, 4, 16, 16).

    Encoded once and kept in `folder` under the encoder's fingerprint; found there the next time.

    Args:
        count: Of the pool's first so many pictures; `None` takes all.
        reduction: Scale each picture down by this whole number, and up again, beforehand.
    """
    weights = [value.cpu().numpy().tobytes() for value in vae.encoder.state_dict().values()]
    count = images if count is None else count
    kind = f"{count}" if reduction == 1 else f"{count}-reduced-{reduction}"
    path = folder / f"latents-{hashlib.sha256(b''.join(weights)).hexdigest()[:12]}-{kind}.safetensors"
    if not path.exists():
        where, pool = device(), pool_images(folder / "pictures", "train", images)
        vae.to(where)
        chunks = []
        for first in range(0, count, 64):
            pixels = as_pixels(pool[first : min(first + 64, count)]).to(where)
            if reduction > 1:
                pixels = functional.interpolate(
                    functional.avg_pool2d(pixels, reduction), size=SIDE, mode="bicubic", align_corners=False
                )
            with torch.autocast(where.type, torch.bfloat16):
                latents = vae.encode(pixels).latent_dist.mode()
            chunks.append((latents.float() * vae.config.scaling_factor).half().cpu())
        write_file(path, save({"latents": torch.cat(chunks)}))
    return load_file(path)["latents"]


def _batch(pool: np.ndarray, generator: torch.Generator) -> torch.Tensor:
    chosen = torch.randint(len(pool), (BATCH,), generator=generator)
    return as_pixels(pool[chosen.numpy()]).to(device())


@torch.no_grad()
def _spread(vae: AutoencoderKL, pool: np.ndarray) -> float:
    batches = (as_pixels(pool[first : first + 64]).to(device()) for first in range(0, 512, 64))
    return torch.cat([vae.encode(pixels).latent_dist.mode() for pixels in batches]).std().item()
