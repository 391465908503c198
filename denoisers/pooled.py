"""Pooled embeddings, which some families are told besides the tokens': both or none are given."""

from __future__ import annotations

from semantic_edit.denoisers.prompts import PromptInput, check_embeds
from semantic_edit.editing.conditioning import Conditioning

POOLED_EMBEDS = "pooled_prompt_embeds"


def check_pooled_with_text(given: PromptInput) -> None:
    """Raise a ValueError if pooled embeddings were given without the tokens'."""
    if given.embeds is None and given.pooled_embeds is not None:
        raise ValueError(
            f"Got `{given.pooled_name}` without `{given.embeds_name}`; pass both, as `encode_prompt` gives them."
        )


def read_pooled(given: PromptInput, text: Conditioning, width: int, network: str = "UNet") -> Conditioning:
    """The tokens' embeddings together with the pooled ones.

    Args:
        given: The arguments.
        text: The tokens' embeddings, checked.
        width: Of the pooled embeddings that the network takes.
        network: What the network is called.

    Raises:
        ValueError: If there are no pooled embeddings, or they do not fit.
    """
    pooled, name = given.pooled_embeds, given.pooled_name
    if pooled is None:
        raise ValueError(
            f"Got `{given.embeds_name}` without `{name}`; pass both, as `encode_prompt` gives them."
        )
    check_embeds(name, pooled, "batch, width", None)
    if pooled.shape[1] != width:
        raise ValueError(
            f"`{name}` is {pooled.shape[1]} wide, but the {network} takes {width}. Encode the prompt with "
            "this pipeline's own text encoders."
        )
    if len(text) != len(pooled):
        raise ValueError(
            f"`{given.embeds_name}` holds {len(text)} prompts and `{name}` {len(pooled)}; pass as many of each."
        )
    return Conditioning({**text.tensors, POOLED_EMBEDS: pooled})
