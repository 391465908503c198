"""A judge of still lifes: a small classifier, trained only on renders, that says which objects a picture shows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional

from semantic_edit.disk.writing import write_file
from semantic_edit.still_life.loop import LoopSettings, device, train
from semantic_edit.still_life.pool import as_pixels, object_labels, pool_pictures, pool_scenes
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES

BATCH = 48
SETTINGS = LoopSettings(steps=1_500, learning_rate=2e-3, weight_decay=0.02)
WEIGHTS = Path(__file__).parent / "judge.safetensors"
_NONE = "nothing"
# Its answers: the surface, then kind and colour of the left and the right object ("nothing" if there is no right one).
ANSWERS: tuple[tuple[str, ...], ...] = (
    SURFACES,
    KINDS,
    tuple(COLOURS),
    (*KINDS, _NONE),
    (*COLOURS, _NONE),
)


class Judge(nn.Module):
    """Maps pixels in [-1, 1], (batch, 3, 128, 128), to the logits of all answers, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (3, 16, 32, 64, 96, 128)
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            if after > 16:
                layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(widths[-1] * (SIDE // 32) ** 2, sum(map(len, ANSWERS)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(pixels))


def load_judge() -> Judge:
    """The trained judge, on the CPU."""
    judge = Judge()
    judge.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return judge.eval()


@torch.no_grad()
def judged(judge: Judge, pictures: list[Image.Image]) -> list[tuple[str, ...]]:
    """For each picture: surface, left kind, left colour, right kind, right colour; "nothing" where no object is."""
    answers = []
    for first in range(0, len(pictures), 64):
        pixels = as_pixels(
            np.stack([np.asarray(picture.convert("RGB")) for picture in pictures[first : first + 64]])
        )
        parts = judge(pixels).split([len(answer) for answer in ANSWERS], dim=-1)
        best = torch.stack([part.argmax(-1) for part in parts], dim=-1)
        answers += [
            tuple(ANSWERS[column][choice] for column, choice in enumerate(row)) for row in best.tolist()
        ]
    return answers


def train_judge(folder: Path, pictures: int, settings: LoopSettings = SETTINGS) -> Judge:
    """Train on renders, slightly blurred, moved and noisy, so that an autoencoder's softness does not decide."""
    torch.manual_seed(settings.seed)
    where = device()
    judge = Judge().to(where)
    labels = object_labels(pool_scenes("train", pictures))
    labels[:, 3:] = torch.where(labels[:, 3:] < 0, torch.tensor([len(KINDS), len(COLOURS)]), labels[:, 3:])
    pool = pool_pictures(folder / "pictures", "train", pictures)

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
