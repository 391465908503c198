"""The attention layers of a UNet: their paths, their resolutions, and how they compute queries, keys and maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer of a UNet.

    name: Its module path, such as "mid_block.attentions.0.transformer_blocks.0.attn2".
    is_cross: Whether its keys come from the text. In a UNet with `only_cross_attention`, so do those of "attn1".
    halvings: How many times the latent's sides were halved before it; 0 at the finest resolution.
    """

    name: str
    is_cross: bool
    halvings: int


def attention_layers(unet: UNet2DConditionModel) -> tuple[AttentionLayer, ...]:
    """All attention layers of `unet`, in the order of its modules."""
    most = len(unet.config.block_out_channels) - 1
    return tuple(
        AttentionLayer(name, bool(layer.is_cross_attention), _halvings(name, most))
        for name, layer in unet.named_modules()
        if isinstance(layer, Attention)
    )


def _halvings(name: str, most: int) -> int:
    place, index, *_ = name.removeprefix("_orig_mod.").split(".")  # torch.compile's wrapper
    if place == "down_blocks":
        return int(index)
    return most - (int(index) if place == "up_blocks" else 0)


def nearest_queries(
    unet: UNet2DConditionModel, latent_height: int, latent_width: int, side: float | None = None
) -> tuple[int, int]:
    """The resolution of `unet`'s cross attention that comes nearest to `side` x `side` positions.

    Args:
        unet: A UNet that is conditioned on text.
        latent_height, latent_width: The latent's sides; each resolution of the UNet halves them, rounding up.
        side: The desired side; by default max(16, a quarter of the latent's side), which for Stable Diffusion at 512
            pixels is StyleDiffusion's 16. The side of a rectangle is the geometric mean of its two sides.

    Returns:
        (height, width) in positions; height * width is the number of queries. Of two that are equally near, the finer.

    Raises:
        ValueError: If the UNet has no cross attention.

    Source: StyleDiffusion, arXiv:2303.15649, which uses the maps with 16 x 16 positions.
    """
    if side is None:
        side = max(16.0, math.sqrt(latent_height * latent_width) / 4)
    halvings = sorted({layer.halvings for layer in attention_layers(unet) if layer.is_cross})
    if not halvings:
        raise ValueError(
            f"`unet` ({type(unet).__name__}) has no cross-attention layer, so no resolution comes near {side:g} "
            "positions a side. Pass a UNet that is conditioned on text."
        )
    sizes = [(-(-latent_height // 2**count), -(-latent_width // 2**count)) for count in halvings]
    return min(sizes, key=lambda size: abs(math.sqrt(math.prod(size)) - side))


def positions(attn: Attention, hidden_states: torch.Tensor, temb: torch.Tensor | None) -> torch.Tensor:
    """A layer's input as its projections take it: normalised, and flattened to (batch, queries, width)."""
    if attn.spatial_norm is not None:
        hidden_states = attn.spatial_norm(hidden_states, temb)
    if hidden_states.ndim == 4:
        hidden_states = hidden_states.flatten(2).transpose(1, 2)
    if attn.group_norm is not None:
        hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
    return hidden_states


def normed_text(attn: Attention, text: torch.Tensor) -> torch.Tensor:
    """Text as the key and value projections take it, (batch, tokens, width)."""
    return attn.norm_encoder_hidden_states(text) if attn.norm_cross else text


def split_heads(attn: Attention, projected: torch.Tensor) -> torch.Tensor:
    """(batch, positions, heads * head width) -> (batch, heads, positions, head width)."""
    return projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def queries_and_keys(
    attn: Attention, queries_from: torch.Tensor, keys_from: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's queries and keys, (batch, heads, queries or keys, head width)."""
    query, key = split_heads(attn, attn.to_q(queries_from)), split_heads(attn, attn.to_k(keys_from))
    return (
        query if attn.norm_q is None else attn.norm_q(query),
        key if attn.norm_k is None else attn.norm_k(key),
    )


def prepared_mask(attn: Attention, mask: torch.Tensor | None, keys_from: torch.Tensor) -> torch.Tensor | None:
    """A layer's attention mask in the form that is added to its scores, (batch, heads, 1 or queries, keys)."""
    if mask is None:
        return None
    batch, keys, _ = keys_from.shape
    return attn.prepare_attention_mask(mask, keys, batch).view(batch, attn.heads, -1, keys)


def attention_maps(
    attn: Attention, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The softmax of a layer's scores, (batch, heads, queries, keys), in float32 or better.

    Args:
        query, key: The result of `queries_and_keys`.
        mask: The result of `prepared_mask`.
    """
    at_least_single = torch.promote_types(query.dtype, torch.float32)
    parts = (None if part is None else part.flatten(0, 1).to(at_least_single) for part in (query, key, mask))
    return attn.get_attention_scores(*parts).unflatten(0, (-1, attn.heads))
