"""The judge of still lifes learns, from renders alone."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch.nn import functional

from semantic_edit.disk.writing import write_file
from semantic_edit.still_life.judge import ANSWERS, WEIGHTS, Judge
from semantic_edit.still_life.pixels import as_pixels
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.solids import KINDS
from training.loop import LoopSettings, device, train
from training.pool import object_labels, pool_images, pool_scenes

BATCH = 48
SETTINGS = LoopSettings(steps=1_500, learning_rate=2e-3, weight_decay=0.02)


def train_judge(folder: Path, images: int, settings: LoopSettings = SETTINGS) -> Judge:
    """Train on renders, slightly blurred, moved and noisy, so that an autoencoder's softness does not decide."""
    torch.manual_seed(settings.seed)
    where = device()
    judge = Judge().to(where)
    labels = object_labels(pool_scenes("train", images))
    labels[:, 3:] = torch.where(labels[:, 3:] < 0, torch.tensor([len(KINDS), len(COLOURS)]), labels[:, 3:])
    pool = pool_images(folder / "pictures", "train", images)

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = torch.randint(len(pool), (BATCH,), generator=generator)
        pixels = _disturbed(as_pixels(pool[chosen.numpy()]), generator).to(where)
        with torch.autocast(where.type, torch.bfloat16):
            parts = judge(pixels).float().split([len(answer) for answer in ANSWERS], dim=-1)
        target = labels[chosen].to(where)
        losses = [functional.cross_entropy(part, target[:, column]) for column, part in enumerate(parts)]
        right = torch.stack([part.argmax(-1) for part in parts], dim=-1) == target
        return torch.stack(losses).sum(), {"all_right": right.all(dim=-1).float().mean().item()}

    train(judge, loss, settings, folder / "judge")
    stored = {name: value.half().contiguous().cpu() for name, value in judge.state_dict().items()}
    write_file(WEIGHTS, save(stored))
    return judge


def _disturbed(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    down, right = torch.randint(0, 9, (2,), generator=generator).tolist()
    moved = functional.pad(pixels, (4,) * 4, mode="replicate")[..., down : down + SIDE, right : right + SIDE]
    softness = torch.rand(len(pixels), 1, 1, 1, generator=generator)
    soft = functional.avg_pool2d(functional.pad(moved, (1,) * 4, mode="replicate"), 3, stride=1)
    noisiness = 0.06 * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    noise = torch.randn(pixels.shape, generator=generator)
    return (moved * (1 - softness) + soft * softness + noisiness * noise).contiguous()
