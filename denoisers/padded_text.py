"""Prompts with as many tokens as their text needs: padded to a common length, with a mask of the tokens that count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from semantic_edit.denoisers.prompts import PromptInput
from semantic_edit.editing.conditioning import Conditioning

TEXT_MASK = "prompt_embeds_mask"


def padded_rows(rows: Sequence[torch.Tensor]) -> Conditioning:
    """Embeddings of single prompts, (tokens, width) each, padded at the end."""
    longest = max(len(row) for row in rows)
    mask = torch.stack([F.pad(row.new_ones(len(row)), (0, longest - len(row))) for row in rows])
    embeds = torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    return Conditioning({"prompt_embeds": embeds, TEXT_MASK: mask})


def unpadded_rows(given: Conditioning) -> list[torch.Tensor]:
    """Undo `padded_rows`: the embeddings of each prompt, (tokens, width)."""
    rows = given.prompt_embeds.unbind()
    if TEXT_MASK not in given.tensors:
        return list(rows)
    return [row[kept] for row, kept in zip(rows, given.tensors[TEXT_MASK].bool(), strict=True)]


def masked_text(embeds: torch.Tensor, mask: torch.Tensor | None) -> Conditioning:
    """Embeddings, (batch, tokens, width), with their mask, (batch, tokens); without one, all tokens count."""
    mask = embeds.new_ones(embeds.shape[:2]) if mask is None else mask.to(embeds)
    return Conditioning({"prompt_embeds": embeds, TEXT_MASK: mask})


def of_one_length(given: Sequence[Conditioning | None]) -> list[Conditioning | None]:
    """The prompts of a call, padded alike, or as they are if they have no masks. Where no token is padding, none has a
    mask."""
    told = [one for one in given if one is not None]
    if not any(TEXT_MASK in one.tensors for one in told):
        return list(given)
    longest = max((one.prompt_embeds.shape[1] for one in told), default=0)
    full = all(
        one.prompt_embeds.shape[1] == longest and bool(one.tensors[TEXT_MASK].bool().all()) for one in told
    )

    def levelled(one: Conditioning) -> Conditioning:
        if full:
            return Conditioning({"prompt_embeds": one.prompt_embeds})
        more = longest - one.prompt_embeds.shape[1]
        return one.map(lambda tensor: F.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, more)))

    return [None if one is None else levelled(one) for one in given]


def check_mask(given: PromptInput) -> None:
    """Raise a ValueError unless a prompt's mask, if there is one, fits its embeddings."""
    mask, embeds, name = given.embeds_mask, given.embeds, given.mask_name
    if mask is None:
        return
    if embeds is None:
        raise ValueError(
            f"Got `{name}` without `{given.embeds_name}`; pass both, as `encode_prompt` gives them."
        )
    if not isinstance(mask, torch.Tensor) or mask.shape != embeds.shape[:2]:
        got = tuple(mask.shape) if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise ValueError(
            f"`{name}` must be a tensor of shape {tuple(embeds.shape[:2])}, one number for each token of "
            f"`{given.embeds_name}`, got {got}."
        )
    if not ((mask == 0) | (mask == 1)).all() or not mask.bool().any(dim=1).all():
        raise ValueError(
            f"`{name}` must hold 1 for tokens and 0 for padding, with at least one token in each row."
        )
