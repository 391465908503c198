"""How much each picture token looks at each word while a joint-attention transformer trains, with gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import Attention


@contextmanager
def recorded_text_columns(
    transformer: SD3Transformer2DModel, words: int, copies: int
) -> Iterator[list[torch.Tensor]]:
    """The text's columns of the picture's rows, mean over heads: (batch, picture tokens, words) for each layer.

    Args:
        words: How many text tokens come from the encoders.
        copies: For how many equal tokens the one after them stands. Equal tokens stay equal in every layer, so one
            with log(copies) added to its scores is the same, and cheaper.
    """
    maps: list[torch.Tensor] = []
    before = dict(transformer.attn_processors)
    transformer.set_attn_processor(_RecordingJointAttnProcessor(maps, words, copies))
    try:
        yield maps
    finally:
        transformer.set_attn_processor(before)


class _RecordingJointAttnProcessor:
    """Plain joint attention of Stable Diffusion 3 that leaves its text columns behind."""

    def __init__(self, maps: list[torch.Tensor], words: int, copies: int) -> None:
        self.maps, self.words, self.copies = maps, words, copies

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        def heads(projected: torch.Tensor, norm: torch.nn.Module | None = None) -> torch.Tensor:
            split = projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return split if norm is None else norm(split)

        query = torch.cat(
            [
                heads(attn.to_q(hidden_states), attn.norm_q),
                heads(attn.add_q_proj(encoder_hidden_states), attn.norm_added_q),
            ],
            dim=2,
        )
        key = torch.cat(
            [
                heads(attn.to_k(hidden_states), attn.norm_k),
                heads(attn.add_k_proj(encoder_hidden_states), attn.norm_added_k),
            ],
            dim=2,
        )
        value = torch.cat(
            [heads(attn.to_v(hidden_states)), heads(attn.add_v_proj(encoder_hidden_states))], dim=2
        )
        image = hidden_states.shape[1]
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        bias = torch.zeros(scores.shape[-1], device=scores.device, dtype=scores.dtype)
        bias[image + self.words :] = math.log(self.copies)
        probs = (scores + bias).softmax(dim=-1)
        self.maps.append(probs[:, :, :image, image : image + self.words].mean(dim=1))
        mixed = (probs.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        mixed_image, mixed_text = mixed[:, :image], mixed[:, image:]
        if not attn.context_pre_only:
            mixed_text = attn.to_add_out(mixed_text)
        return attn.to_out[1](attn.to_out[0](mixed_image)), mixed_text
