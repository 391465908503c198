"""A judge of still lifes: a small classifier, trained only on renders, that says which objects a picture shows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from semantic_edit.still_life.pixels import as_pixels
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES

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
def judged(judge: Judge, images: list[Image.Image]) -> list[tuple[str, ...]]:
    """For each picture: surface, left kind, left colour, right kind, right colour; "nothing" where no object is."""
    answers = []
    for first in range(0, len(images), 64):
        pixels = as_pixels(
            np.stack([np.asarray(image.convert("RGB")) for image in images[first : first + 64]])
        )
        parts = judge(pixels).split([len(answer) for answer in ANSWERS], dim=-1)
        best = torch.stack([part.argmax(-1) for part in parts], dim=-1)
        answers += [
            tuple(ANSWERS[column][choice] for column, choice in enumerate(row)) for row in best.tolist()
        ]
    return answers
