"""What the families have in common whose pictures go through a VAE and whose prompts go through text encoders."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from diffusers import AutoencoderKL
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import PromptTokens, check_padded, tokenize_prompt
from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.denoisers.prompts import Prompt, PromptInput, check_embeds, read_texts
from semantic_edit.denoisers.truncation import as_read, truncation_told, warn_of_truncation
from semantic_edit.denoisers.vocabulary import warn_of_unknown_words
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import FiniteWatch, check_finite


class LatentComponents(Protocol):
    """The components of a pipeline that all families have."""

    vae: AutoencoderKL
    scheduler: Any
    text_encoder: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase | None
    vae_scale_factor: int
    encode_prompt: Callable[..., Any]

    @property
    def _execution_device(self) -> torch.device: ...


@dataclass(frozen=True, eq=False)
class LatentDenoiser(Denoiser):
    """A model with a VAE and text encoders, whatever its denoising network is.

    pipe: A pipeline with its components; it is only read.
    clip_skip: Layers of the CLIP text encoders to skip, for all but unconditional prompts, as in diffusers.
    """

    pipe: LatentComponents
    clip_skip: int | None = None

    further_encoders: ClassVar[int] = 0
    """How many text encoders there are besides the first, each of which may read a text of its own."""

    takes_text: ClassVar[str] = "UNet's cross attention"
    """What in the network takes the token embeddings, in the words of an error."""

    knows_absence: ClassVar[bool] = False
    """Whether a prompt that is not given may differ from an empty text."""

    @property
    @abstractmethod
    def network_dtype(self) -> torch.dtype:
        """What the denoising network computes in."""

    @property
    @abstractmethod
    def text_width(self) -> int | None:
        """The width of the token embeddings that the network takes, if it is a single number."""

    @property
    def latent_channels(self) -> int:  # type: ignore[override]
        """Number of channels of the latents."""
        return self.pipe.vae.config.latent_channels

    @property
    def scaling_factor(self) -> float:  # type: ignore[override]
        """What the VAE's latents are multiplied by."""
        return self.pipe.vae.config.scaling_factor

    @cached_property
    def device(self) -> torch.device:
        """Where the model computes; cached because diffusers walks through all modules to find it."""
        return self.pipe._execution_device

    @property
    def num_text_tokens(self) -> int:
        """The number of tokens that a prompt is padded or truncated to."""
        return self.pipe.tokenizer.model_max_length  # type: ignore[union-attr]

    def check_words(self) -> None:
        """Raise unless the pipeline can find the words of a prompt.

        Raises:
            ValueError: If it has no text encoder, or no tokenizer.
        """
        if not self._can_encode:
            raise ValueError(
                "Prompts are aligned word by word, which needs `text_encoder` and `tokenizer`, and this pipeline lacks "
                "one of them; load both."
            )

    def tokens(self, text: str) -> PromptTokens:
        """A prompt's tokens and words, with those of textual inversions in their place."""
        tokenizer: Any = self.pipe.tokenizer
        with lock_of(tokenizer), truncation_told():  # `embed` warns of it
            return tokenize_prompt(tokenizer, as_read(self.pipe, text, tokenizer))

    def read_prompt(self, given: PromptInput, required: bool = True, unconditional: bool = False) -> Prompt:
        """Check one prompt argument and those that belong with it; see [`Denoiser.read_prompt`]."""
        embeds = given.embeds
        named = {given.name: given.text, **dict(zip(given.other_names, given.others, strict=True))}
        told = {name: text for name, text in named.items() if text is not None}
        if embeds is not None and told:
            one = next(iter(told))
            raise ValueError(f"Got both `{one}` and `{given.embeds_name}`; pass only one of the two.")
        if embeds is not None:
            return Prompt(given.name, embeds=self._read_embeds(given), unconditional=unconditional)
        if not told:
            if required:
                raise ValueError(
                    f"Got neither `{given.name}` nor `{given.embeds_name}`; pass one of the two."
                )
            return self.absent_prompt(given.name, unconditional)
        read = {name: read_texts(name, text) for name, text in {given.name: "", **told}.items()}
        counts = {name: len(texts) for name, texts in read.items() if len(texts) > 1}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
            raise ValueError(
                f"The texts of one prompt do not match in number: {listed}. Pass as many of each."
            )
        others = tuple(read.get(name) for name in given.other_names[: self.further_encoders])
        return Prompt(given.name, read[given.name], others, unconditional=unconditional)

    def _read_embeds(self, given: PromptInput) -> Conditioning:
        shape = "batch, tokens, width"
        check_embeds(given.embeds_name, given.embeds, shape, self.text_width, self.takes_text)
        return Conditioning({"prompt_embeds": given.embeds})

    def absent_prompt(self, name: str, unconditional: bool = False, instead: str = "") -> Prompt:
        """The empty text."""
        return Prompt(name, ("",), unconditional=unconditional, instead=instead)

    @torch.no_grad()
    def embed(self, prompts: Sequence[Prompt | None], batch_size: int) -> list[Conditioning | None]:
        """Embed several prompts, every different text once, by diffusers' own `encode_prompt`.

        Threads take turns encoding with a tokenizer, because it stores how it pads and truncates. See
        [`Denoiser.embed`].
        """
        prompts = self._without_absent(prompts)
        wanted = [prompt for prompt in prompts if prompt is not None and prompt.texts is not None]
        if wanted and not self._can_encode:
            instead = wanted[0].instead or self._instead_of_text(wanted[0].name)
            raise ValueError(
                f"`{wanted[0].name}` is text, but this pipeline has no text encoder and tokenizer; pass {instead} "
                "instead."
            )
        for prompt in wanted:
            for name, texts, tokenizers in self._tokenizing(prompt):
                warn_of_truncation(self.pipe, tokenizers, name, texts)
        if wanted:
            warn_of_unknown_words(
                self.pipe, [text for one in wanted for texts in self._readings(one) for text in texts]
            )
        rows = self._encoded(wanted)

        def embedded(prompt: Prompt | None) -> Conditioning | None:
            if prompt is None:
                return None
            given = prompt.embeds
            if given is None:
                given = Conditioning.cat([rows[self._key(prompt, texts)] for texts in self._readings(prompt)])
            given = given.to(self.device).to(self.network_dtype)
            return given.expand(batch_size) if len(given) == 1 else given

        watch, given = FiniteWatch(), [embedded(prompt) for prompt in prompts]
        for asked, values in zip(prompts, given, strict=True):
            if asked is not None and values is not None:
                for tensor in values.tensors.values():
                    watch.see(f"the embeddings of `{asked.name}`", tensor)
        watch.check()
        return given

    def _without_absent(self, prompts: Sequence[Prompt | None]) -> Sequence[Prompt | None]:
        """The same prompts, with embeddings for those that were not given and stand for no text at all."""
        return prompts

    def _instead_of_text(self, name: str) -> str:
        """What may be passed in place of a prompt's text, in the words of an error."""
        return f"`{name}_embeds`"

    def _tokenizing(self, prompt: Prompt) -> list[tuple[str, Sequence[str], list[PreTrainedTokenizerBase]]]:
        """Which texts are read by which tokenizers, each under the argument that it came from."""
        names = (prompt.name, *PromptInput(prompt.name).other_names)
        columns = dict(itertools.zip_longest(names, (prompt.texts, *prompt.others)))
        read: dict[str, list[PreTrainedTokenizerBase]] = {}
        for (name, texts), tokenizer in zip(columns.items(), self._tokenizers, strict=False):
            if tokenizer is not None:
                read.setdefault(prompt.name if texts is None else name, []).append(tokenizer)
        return [(name, columns[name] or (), tokenizers) for name, tokenizers in read.items()]

    def _readings(self, prompt: Prompt) -> list[tuple[str, ...]]:
        """For each text of a prompt, what each of the family's encoders reads."""
        count = 1 + self.further_encoders
        return [texts + texts[:1] * (count - len(texts)) for texts in prompt.readings]

    def _key(self, prompt: Prompt, texts: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
        # without clip_skip both kinds are encoded in the same way, and share their rows
        return texts, prompt.unconditional and self.clip_skip is not None

    def _encoded(self, prompts: Sequence[Prompt]) -> dict[tuple[tuple[str, ...], bool], Conditioning]:
        """A row for each different text."""
        keys = dict.fromkeys(
            self._key(prompt, texts) for prompt in prompts for texts in self._readings(prompt)
        )
        rows: dict[tuple[tuple[str, ...], bool], Conditioning] = {}
        for unskipped in (False, True):
            group = [key for key in keys if key[1] == unskipped]
            if not group:
                continue
            with ExitStack() as locked:
                for tokenizer in self._tokenizers:
                    if tokenizer is not None:
                        locked.enter_context(lock_of(tokenizer))
                locked.enter_context(truncation_told())
                given = self._encode_texts(
                    [texts for texts, _ in group], None if unskipped else self.clip_skip
                )
            self._check_encoded(given)
            for index, key in enumerate(group):
                rows[key] = given.rows(slice(index, index + 1))
        return rows

    def _check_encoded(self, given: Conditioning) -> None:
        """Raise a RuntimeError if another thread's use of a tokenizer shows in what was encoded."""
        check_padded(self.pipe.tokenizer, given.prompt_embeds.shape[1])

    @property
    def _tokenizers(self) -> list[PreTrainedTokenizerBase | None]:
        """One for each of the family's text encoders, `None` for those that are missing."""
        return [self.pipe.tokenizer]

    @property
    def _can_encode(self) -> bool:
        return self.pipe.text_encoder is not None and self.pipe.tokenizer is not None

    @abstractmethod
    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        """Encode texts, each for all of the family's encoders, by diffusers' `encode_prompt`."""

    @property
    def pooling_tower(self) -> tuple[PreTrainedTokenizerBase | None, Any]:
        """The tokenizer and the text encoder whose pooled output describes a whole text."""
        return self.pipe.tokenizer, self.pipe.text_encoder

    @torch.no_grad()
    def pooled_text(self, texts: Sequence[str]) -> torch.Tensor:
        """A text encoder's pooled output, (texts, width), not normalised; projected if the encoder has a projection.

        Args:
            texts: Truncated to what the tokenizer allows.
        """
        tokenizer, encoder = self.pooling_tower
        with lock_of(tokenizer):
            inputs = tokenizer(  # type: ignore[misc]
                list(texts),
                padding="max_length",
                max_length=tokenizer.model_max_length,  # type: ignore[union-attr]
                truncation=True,
                return_tensors="pt",
            )
        found = encoder(inputs.input_ids.to(encoder.device))
        return found.text_embeds if hasattr(encoder, "text_projection") else found.pooler_output

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See [`Denoiser.encode`]."""
        vae = self.pipe.vae
        with self._vae_precision():
            encoded = vae.encode((2 * pixels.to(self.device) - 1).to(vae.dtype))
        # an AutoencoderTiny gives no distribution
        mode = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        check_finite("the VAE's encoder", mode)
        shift = vae.config.get("shift_factor") or 0.0
        return self._normalised((mode.float() - shift) * self.scaling_factor)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See [`Denoiser.decode`]."""
        vae = self.pipe.vae
        shift = vae.config.get("shift_factor") or 0.0
        scaled = self._denormalised(latents) / self.scaling_factor + shift
        with self._vae_precision():
            decoded = vae.decode(scaled.to(vae.dtype), return_dict=False)[0].float()
        check_finite("the VAE's decoder", decoded)
        return (decoded / 2 + 0.5).clamp(0, 1)

    def _vae_precision(self) -> AbstractContextManager[None]:
        """The precision that the VAE computes in."""
        return nullcontext()

    def _normalised(self, latents: torch.Tensor) -> torch.Tensor:
        return latents

    def _denormalised(self, latents: torch.Tensor) -> torch.Tensor:
        return latents

    def _check_components(self, names: Sequence[str]) -> None:
        """Raise a ValueError if a component is missing, or the VAE's config does not give its latent channels."""
        missing = [f"`{name}`" for name in names if getattr(self.pipe, name) is None]
        if missing:
            raise ValueError(
                f"This pipeline has no {' and no '.join(missing)}, which every edit needs. Pass what is missing to "
                "`from_pretrained` or `from_pipe`, or do not pass `None` in its place."
            )
        self._check_vae()

    def _check_vae(self) -> None:
        if self.pipe.vae.config.get("latent_channels") is None:
            raise ValueError(
                f"The `vae` is a {type(self.pipe.vae).__name__}, which has no `latent_channels` in its config; "
                "load an AutoencoderKL or AutoencoderTiny."
            )
