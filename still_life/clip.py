"""The still-life model's tiny CLIP at work: texts and pictures as vectors of one space."""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import CLIPTokenizer, CLIPVisionModelWithProjection

from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.solids import KINDS

MAX_TOKENS = 20
PAIRS = [(colour, kind) for colour in COLOURS for kind in KINDS]


@torch.no_grad()
def embed_images(image_encoder: CLIPVisionModelWithProjection, pixels: torch.Tensor) -> torch.Tensor:
    """Unit vectors (images, 128) in the space of the text encoder's pooled output, which is not projected.

    Args:
        image_encoder: The model's.
        pixels: (images, 3, 128, 128) in [-1, 1].
    """
    return functional.normalize(image_encoder(pixels).image_embeds.float(), dim=-1)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids (texts, MAX_TOKENS)."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
