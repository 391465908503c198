"""Pooled embeddings, which some families are told besides the tokens': both or none are given."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from semantic_edit.denoisers.latent import LatentDenoiser
from semantic_edit.denoisers.prompts import Prompt, PromptInput, check_embeds
from semantic_edit.editing.conditioning import Conditioning

POOLED_EMBEDS = "pooled_prompt_embeds"


class PooledPrompts(LatentDenoiser):
    """What the families have in common whose second text encoder gives a pooled embedding, or all of the tokens'.

    Their conditionings hold "prompt_embeds", (batch, tokens, width), and "pooled_prompt_embeds", (batch, width).
    """

    takes_pooled: ClassVar[str] = "transformer"
    """What takes the pooled embedding, in the words of an error."""

    @property
    @abstractmethod
    def pooled_width(self) -> int:
        """The width of the pooled embedding that the network takes."""

    def read_prompt(self, given: PromptInput, required: bool = True, unconditional: bool = False) -> Prompt:
        """Check one prompt argument and those that belong with it; see [`Denoiser.read_prompt`]."""
        if given.embeds is None and given.pooled_embeds is not None:
            raise ValueError(
                f"Got `{given.pooled_name}` without `{given.embeds_name}`; pass both, as `encode_prompt` gives them."
            )
        return super().read_prompt(given, required, unconditional)

    def _read_embeds(self, given: PromptInput) -> Conditioning:
        pooled, name = given.pooled_embeds, given.pooled_name
        if pooled is None:
            raise ValueError(
                f"Got `{given.embeds_name}` without `{name}`; pass both, as `encode_prompt` gives them."
            )
        text = super()._read_embeds(given)
        check_embeds(name, pooled, "batch, width", None)
        if pooled.shape[1] != self.pooled_width:
            raise ValueError(
                f"`{name}` is {pooled.shape[1]} wide, but the {self.takes_pooled} takes {self.pooled_width}. Encode "
                "the prompt with this pipeline's own text encoders."
            )
        if len(text) != len(pooled):
            raise ValueError(
                f"`{given.embeds_name}` holds {len(text)} prompts and `{name}` {len(pooled)}; pass as many of each."
            )
        return Conditioning({**text.tensors, POOLED_EMBEDS: pooled})

    @property
    def _can_encode(self) -> bool:
        second = self.pipe.text_encoder_2, self.pipe.tokenizer_2  # type: ignore[attr-defined]
        return super()._can_encode and all(part is not None for part in second)

    def _instead_of_text(self, name: str) -> str:
        given = PromptInput(name)
        return f"`{given.embeds_name}` and `{given.pooled_name}`"
