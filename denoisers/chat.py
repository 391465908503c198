"""Families whose prompts are read by a language model, inside a chat template."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from semantic_edit.attention_processors.framed_tokens import FramedPrompt, TokenRange, tokenize_framed
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import PromptTokens
from semantic_edit.denoisers.padded_text import of_one_length
from semantic_edit.denoisers.prompts import Prompt
from semantic_edit.denoisers.transformer import TransformerDenoiser
from semantic_edit.denoisers.truncation import truncation_told, warn_of_cut_off
from semantic_edit.disk.reading import shortened
from semantic_edit.editing.conditioning import Conditioning


@dataclass(frozen=True, eq=False)
class ChatDenoiser(TransformerDenoiser):
    """What these families have in common: prompts of different lengths.

    Their conditionings hold "prompt_embeds", (batch, tokens, width), and, unless all tokens count,
    "prompt_embeds_mask", (batch, tokens).
    """

    own_size = (1024, 1024)
    layers_read: ClassVar[int] = 1
    """How many of the text encoder's layers stand side by side in an embedding."""

    @abstractmethod
    def _framed(self, text: str) -> FramedPrompt:
        """A prompt in the family's template."""

    @property
    @abstractmethod
    def _taken(self) -> TokenRange:
        """The tokens of a prompt in its template that become embeddings."""

    def tokens(self, text: str) -> PromptTokens:
        """A prompt's tokens and words, by their places among its embeddings, which include parts of the template."""
        tokenizer: Any = self.pipe.tokenizer
        with lock_of(tokenizer), truncation_told():
            return tokenize_framed(tokenizer, self._framed(text), self._taken)

    def embed(self, prompts: Sequence[Prompt | None], batch_size: int) -> list[Conditioning | None]:
        """Prompts padded to a common length; see [`Denoiser.embed`]."""
        given = super().embed(prompts, batch_size)
        for prompt in prompts:
            for text in (prompt.texts or ()) if prompt is not None else ():
                if cut_off := self.tokens(text).cut_off:
                    warn_of_cut_off(prompt.name, self.max_sequence_length, cut_off)  # type: ignore[union-attr]
        return of_one_length(given)

    def _tokenizing(self, prompt: Prompt) -> list[tuple[str, Sequence[str], list[PreTrainedTokenizerBase]]]:
        """None: `embed` itself says what is cut off, because the template counts."""
        return []

    def _check_encoded(self, given: Conditioning) -> None:
        """Lengths differ, so they tell nothing."""

    def _check_text_width(self) -> None:
        """Raise a ValueError if the text encoder is of another model than the transformer."""
        encoder = self.pipe.text_encoder
        width = None if encoder is None else self.layers_read * encoder.config.get_text_config().hidden_size
        if width not in (None, self.text_width):
            raise ValueError(
                f"The `text_encoder` gives embeddings {width} wide, but the transformer takes {self.text_width}: they "
                "are of different models. Load both from one model."
            )

    def _check_text_to_image(self, config: Any, channels: int, signs: dict[str, str]) -> None:
        """Raise a ValueError if the transformer was made for more than text.

        Args:
            config: The transformer's.
            channels: Of its input, that fit the VAE.
            signs: What is true in the config of other models, with what those are.
        """
        instead = f"Use a text-to-image {self.family.title} model."
        for name, kind in signs.items():
            if config.get(name):
                raise ValueError(
                    f"This `transformer` has {name}={shortened(config[name])}, as {kind}. {instead}"
                )
        if config.in_channels != channels:
            raise ValueError(
                f"This `transformer` needs {config.in_channels} input channels where the VAE gives {channels}, as "
                f"inpainting models do. {instead}"
            )
