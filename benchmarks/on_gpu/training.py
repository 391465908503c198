"""Train the still-life model's UNet on, as far as the minutes allow."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.on_gpu.report import Figure
from semantic_edit.still_life import model_path, unet, vae
from semantic_edit.still_life.pool import pool_coverage

PICTURES, PILOT = 48_000, 50


def training(out: Path, seconds: float, pictures: int = PICTURES, pilot: int = PILOT) -> Iterator[Figure]:
    """Render, encode, time a few steps, and take as many as fit into `seconds`; weights go to `out`/model/unet."""
    ends, model = time.monotonic() + seconds, model_path()
    latents = vae.pool_latents(AutoencoderKL.from_pretrained(model / "vae"), out, pictures)
    coverage = pool_coverage(out / "pictures", "train", pictures)
    yield Figure(f"{pictures} pictures rendered and encoded", seconds - (ends - time.monotonic()))
    text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")

    def trained(steps: int) -> float:
        start = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
        began = time.monotonic()
        settings = unet.SETTINGS.lasting(steps)
        done = unet.train_unet(out, latents, coverage, text_encoder, tokenizer, settings, start)
        done.save_pretrained(out / "model" / "unet")
        return time.monotonic() - began

    pace = trained(pilot) / pilot
    shutil.rmtree(out / "unet")  # its learning rate ended with it
    steps = max(pilot, int(0.8 * (ends - time.monotonic()) / pace))
    taken = trained(steps)
    yield Figure(f"{steps} steps: one of them", 1000 * taken / steps, "ms")
