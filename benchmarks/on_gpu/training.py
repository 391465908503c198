"""Continue to train the still-life model's UNet for as long as the time allows."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.on_gpu.report import Figure
from semantic_edit.still_life import model_path
from training.denoising import LatentPool
from training.pool import pool_coverage
from training.still_life import unet, vae

PICTURES, PILOT = 16_000, 60


def training(out: Path, seconds: float, images: int = PICTURES, pilot: int = PILOT) -> Iterator[Figure]:
    """Render and encode images, time a few steps, and make as many more as fit into the given seconds.

    The weights, in half precision, and the log are written to `out`.
    """
    ends, model = time.monotonic() + seconds, model_path()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        latents = vae.pool_latents(AutoencoderKL.from_pretrained(model / "vae"), work, images)
        pool = LatentPool(latents, pool_coverage(work / "pictures", "train", images))
        yield Figure(f"{images} pictures rendered and encoded", seconds - (ends - time.monotonic()))

        def train(steps: int) -> float:
            began = time.monotonic()
            text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder")
            tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
            start = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
            settings = unet.SETTINGS.lasting(steps)
            trained = unet.train_unet(work, pool, text_encoder, tokenizer, settings, start)
            trained.to(torch.float16).save_pretrained(out)
            shutil.copy(work / "unet" / "log.jsonl", out)
            return time.monotonic() - began

        pace = train(pilot) / pilot  # it reads captions once more, so it errs on the slow side
        shutil.rmtree(work / "unet")  # its learning rate ended with it
        steps = max(pilot, int(0.85 * (ends - time.monotonic()) / pace))
        yield Figure(f"{steps} steps: one of them", 1000 * train(steps) / steps, "ms")
