"""Grounding: while the denoiser trains, a word's cross-attention is drawn into the object that the word describes.

The renderer knows where each object is, so the share of a word's map that falls outside of its object can be a loss:
the token loss of TokenCompose, arXiv 2312.03626, on noun and colour words alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from transformers import CLIPTokenizer

from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.solids import KINDS


class ObjectWords:
    """Finds which tokens of a caption describe which object."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.nouns = torch.tensor(tokenizer.convert_tokens_to_ids([f"{kind}</w>" for kind in KINDS]))
        self.colours = torch.tensor(tokenizer.convert_tokens_to_ids([f"{name}</w>" for name in COLOURS]))

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """One-hot tokens of (batch, words, tokens) for ids (batch, tokens).

        The words are the left object's noun, the right one's, then their colours; a row of zeros where there is none.
        Captions name the objects from left to right, a colour right before its noun.
        """
        noun = torch.isin(ids, self.nouns)
        colour = torch.isin(ids, self.colours) & noun.roll(-1, dims=1)
        rank = noun.cumsum(dim=1)
        nouns = [noun & (rank == place + 1) for place in range(2)]
        colours = [colour & (rank == place) for place in range(2)]
        return torch.stack([*nouns, *colours], dim=1).float()


def grounding_loss(maps: list[torch.Tensor], words: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
    """The mean square of the share of each word's attention that lies outside of its object, a scalar.

    Args:
        maps: For each layer, attention (batch, queries, tokens) over a square of queries.
        words: As `ObjectWords` gives them, (batch, 4, tokens).
        coverage: How much of each cell the left and the right object cover, (batch, 2, side, side), in [0, 1].
    """
    named = words.amax(dim=2)
    shares = []
    for attention in maps:
        side = math.isqrt(attention.shape[1])
        inside = (2 * F.adaptive_avg_pool2d(coverage, side)).clamp(max=1.0).flatten(2).repeat(1, 2, 1)
        mass = torch.einsum("bqt,bwt->bwq", attention.float(), words)
        shares.append((mass * inside).sum(dim=2) / mass.sum(dim=2).clamp(min=1e-6))
    outside = 1.0 - torch.stack(shares)
    return (outside.square() * named).sum() / (len(maps) * named.sum()).clamp(min=1.0)


@contextmanager
def recorded_maps(unet: UNet2DConditionModel) -> Iterator[list[torch.Tensor]]:
    """The cross-attention maps, mean over heads, of the UNet's evaluations in the block, with their gradients."""
    maps: list[torch.Tensor] = []
    before = dict(unet.attn_processors)
    unet.set_attn_processor(
        {name: _RecordingAttnProcessor(maps) if ".attn2." in name else one for name, one in before.items()}
    )
    try:
        yield maps
    finally:
        unet.set_attn_processor(before)


class _RecordingAttnProcessor:
    """Plain cross-attention of a transformer block that leaves its map behind."""

    def __init__(self, maps: list[torch.Tensor]) -> None:
        self.maps = maps

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probs = attn.get_attention_scores(query, key, attention_mask)
        self.maps.append(probs.view(-1, attn.heads, *probs.shape[1:]).mean(dim=1))
        mixed = attn.batch_to_head_dim(torch.bmm(probs, value))
        return attn.to_out[1](attn.to_out[0](mixed))
