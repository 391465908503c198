"""Families with a UNet that cross-attends to a prompt, and a VAE with a scaling factor."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.layers import nearest_queries
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import PromptTokens, check_padded, tokenize_prompt
from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.denoisers.identity import network_identity
from semantic_edit.denoisers.prompts import Prompt, PromptInput, check_embeds, read_texts
from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.denoisers.truncation import truncation_told, warn_of_truncation
from semantic_edit.denoisers.vocabulary import warn_of_unknown_words
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import FiniteWatch, check_finite
from semantic_edit.editing.frames import Size
from semantic_edit.editing.schedule import Schedule


class UNetComponents(Protocol):
    """The components of a pipeline of these families."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: Any
    text_encoder: CLIPTextModel | None
    tokenizer: CLIPTokenizer | None
    vae_scale_factor: int
    encode_prompt: Callable[..., Any]
    maybe_convert_prompt: Callable[..., Any]

    @property
    def _execution_device(self) -> torch.device: ...


@dataclass(frozen=True, eq=False)
class UNetDenoiser(Denoiser):
    """What Stable Diffusion's families have in common.

    pipe: A pipeline with their components; it is only read.
    cross_attention_kwargs: For the attention processors; "scale" is the LoRA scale, which also applies to the text
        encoder.
    clip_skip: Layers of the text encoder to skip, for all but unconditional prompts, as in diffusers.
    network: Evaluated in place of the pipeline's UNet; see `through`.
    """

    pipe: UNetComponents
    cross_attention_kwargs: dict[str, Any] | None = None
    clip_skip: int | None = None
    network: BorrowedNetwork | None = None

    knows_absence: ClassVar[bool] = False
    """Whether a prompt that is not given may differ from an empty text."""

    @property
    def unet(self) -> UNet2DConditionModel:
        """The network itself."""
        return self.pipe.unet

    def through(self, network: BorrowedNetwork) -> UNetDenoiser:
        """The same denoiser, but evaluating its UNet through a borrowed network."""
        return replace(self, network=network)

    @property
    def cell(self) -> int:  # type: ignore[override]
        """Pixels along a latent's side."""
        return self.pipe.vae_scale_factor

    @property
    def multiple(self) -> int:  # type: ignore[override]
        """What both sides of a picture must be multiples of, in pixels."""
        return self.pipe.vae_scale_factor

    @property
    def own_size(self) -> Size:  # type: ignore[override]
        """The model's native width and height, in pixels."""
        sides = self.unet.config.sample_size or 64
        height, width = sides if isinstance(sides, (list, tuple)) else (sides, sides)
        return width * self.cell, height * self.cell

    @property
    def latent_channels(self) -> int:  # type: ignore[override]
        """Number of channels of the latents."""
        return self.pipe.vae.config.latent_channels

    @property
    def scaling_factor(self) -> float:  # type: ignore[override]
        """What the VAE's latents are multiplied by."""
        return self.pipe.vae.config.scaling_factor

    @property
    def text_widths(self) -> set[int]:
        """The widths of the token embeddings that cross attention takes; one in almost every model."""
        width = self.unet.config.cross_attention_dim
        return set(width) if isinstance(width, (list, tuple)) else {width}

    @property
    def text_width(self) -> int | None:
        """The width of the token embeddings that cross attention takes, if it is a single number."""
        widths = self.text_widths
        return widths.pop() if len(widths) == 1 else None

    @cached_property
    def device(self) -> torch.device:
        """Where the model computes; cached because diffusers walks through all modules to find it."""
        return self.pipe._execution_device

    def identity(self) -> str:
        """See `network_identity`."""
        return network_identity(self.unet, self.cross_attention_kwargs)

    def schedule(self, num_inference_steps: int) -> Schedule:
        """DDIM's levels for the scheduler's config; see `schedule_from_scheduler`."""
        return schedule_from_scheduler(self.pipe.scheduler, num_inference_steps)

    def attention_size(
        self, latent_height: int, latent_width: int, side: float | None = None
    ) -> tuple[int, int]:
        """The cross-attention resolution nearest to a given side; see `nearest_queries`."""
        return nearest_queries(self.unet, latent_height, latent_width, side)

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
        with lock_of(self.pipe.tokenizer), truncation_told():  # `embed` warns of it
            return tokenize_prompt(
                self.pipe.tokenizer, self.pipe.maybe_convert_prompt(text, self.pipe.tokenizer)
            )

    def read_prompt(self, given: PromptInput, required: bool = True, unconditional: bool = False) -> Prompt:
        """Check one prompt argument and those that belong with it; see [`Denoiser.read_prompt`]."""
        text, embeds = given.text, given.embeds
        if embeds is not None and (text is not None or given.text_2 is not None):
            one = given.name if text is not None else given.name_2
            raise ValueError(f"Got both `{one}` and `{given.embeds_name}`; pass only one of the two.")
        if embeds is not None:
            return Prompt(given.name, embeds=self._read_embeds(given), unconditional=unconditional)
        if text is None and given.text_2 is None:
            if required:
                raise ValueError(
                    f"Got neither `{given.name}` nor `{given.embeds_name}`; pass one of the two."
                )
            return self.absent_prompt(given.name, unconditional)
        texts = read_texts(given.name, "" if text is None else text)
        texts_2 = None if given.text_2 is None else read_texts(given.name_2, given.text_2)
        if texts_2 is not None and len(texts) != len(texts_2) and 1 not in (len(texts), len(texts_2)):
            raise ValueError(
                f"`{given.name}` holds {len(texts)} texts and `{given.name_2}` {len(texts_2)}; pass as many of each."
            )
        return Prompt(given.name, texts, texts_2, unconditional=unconditional)

    def _read_embeds(self, given: PromptInput) -> Conditioning:
        check_embeds(given.embeds_name, given.embeds, "batch, tokens, width", self.text_width)
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
            for name, texts, tokenizers in self._readings(prompt):
                warn_of_truncation(self.pipe, tokenizers, name, texts)
        if wanted:
            warn_of_unknown_words(self.pipe, [text for one in wanted for pair in one.pairs for text in pair])
        rows = self._encoded(wanted)

        def embedded(prompt: Prompt | None) -> Conditioning | None:
            if prompt is None:
                return None
            given = prompt.embeds
            if given is None:
                given = Conditioning.cat([rows[self._key(prompt, pair)] for pair in prompt.pairs])
            given = given.to(self.device).to(self.unet.dtype)
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

    def _readings(self, prompt: Prompt) -> list[tuple[str, Sequence[str], Sequence[CLIPTokenizer]]]:
        """Which texts are read by which tokenizers, each under the argument that it came from."""
        return [(prompt.name, prompt.texts or (), [self.pipe.tokenizer])]

    def _key(self, prompt: Prompt, pair: tuple[str, str]) -> tuple[str, str, bool]:
        # without clip_skip both kinds are encoded in the same way, and share their rows
        return *pair, prompt.unconditional and self.clip_skip is not None

    def _encoded(self, prompts: Sequence[Prompt]) -> dict[tuple[str, str, bool], Conditioning]:
        """A row for each different text."""
        keys = dict.fromkeys(self._key(prompt, pair) for prompt in prompts for pair in prompt.pairs)
        rows: dict[tuple[str, str, bool], Conditioning] = {}
        for unskipped in (False, True):
            group = [key for key in keys if key[2] == unskipped]
            if not group:
                continue
            pairs = [(first, second) for first, second, _ in group]
            with lock_of(self.pipe.tokenizer), truncation_told():
                given = self._encode_texts(pairs, None if unskipped else self.clip_skip)
            check_padded(self.pipe.tokenizer, given.prompt_embeds.shape[1])
            for index, key in enumerate(group):
                rows[key] = given.rows(slice(index, index + 1))
        return rows

    @property
    def _can_encode(self) -> bool:
        return self.pipe.text_encoder is not None and self.pipe.tokenizer is not None

    @abstractmethod
    def _encode_texts(self, pairs: Sequence[tuple[str, str]], clip_skip: int | None) -> Conditioning:
        """Encode texts for both encoders, by diffusers' `encode_prompt`."""

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

    def predict(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """Evaluate the UNet; see [`Denoiser.predict`]."""
        if not isinstance(timestep, torch.Tensor):
            # a tensor, because torch.compile makes a separate graph for each integer; created on the device, because
            # copying it there would wait for the GPU at every step
            timestep = torch.full((), timestep, device=latents.device)  # type: ignore[assignment]
        return (self.network or self.unet)(
            latents.to(given.dtype),
            timestep,
            encoder_hidden_states=given.prompt_embeds,
            cross_attention_kwargs=self.cross_attention_kwargs,
            return_dict=False,
            **self._added(latents, given),
        )[0].float()

    def attention_to(
        self, words: Sequence[int], latents: torch.Tensor, timestep: float, given: Conditioning
    ) -> torch.Tensor:
        """Computed from cross-attention maps near StyleDiffusion's resolution; see [`Denoiser.attention_to`]."""
        size = self.attention_size(*latents.shape[-2:])
        with (
            lock_of(self.unet),
            BorrowedNetwork(self.unet) as unet,
            captured_cross_attention(unet, math.prod(size)) as maps,
        ):
            predicted = self.through(unet).predict(latents, timestep, given)
        check_finite(f"the search's predictions (timestep {timestep})", predicted)
        return maps.mean().mean(0)[:, list(words)].mean(-1).unflatten(0, size)

    @property
    def pooling_tower(self) -> tuple[CLIPTokenizer | None, Any]:
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

    def _added(self, latents: torch.Tensor, given: Conditioning) -> dict[str, Any]:
        """Further arguments for the UNet."""
        return {}

    def _check_components(self, names: Sequence[str]) -> None:
        """Raise a ValueError if a component is missing, or the VAE's config does not give its latent channels."""
        missing = [f"`{name}`" for name in names if getattr(self.pipe, name) is None]
        if missing:
            raise ValueError(
                f"This pipeline has no {' and no '.join(missing)}, which every edit needs. Pass what is missing to "
                "`from_pretrained` or `from_pipe`, or do not pass `None` in its place."
            )
        channels = self.pipe.vae.config.get("latent_channels")
        if channels is None:
            raise ValueError(
                f"The `vae` is a {type(self.pipe.vae).__name__}, which has no `latent_channels` in its config; "
                "load an AutoencoderKL or AutoencoderTiny."
            )

    def _foreign_needs(self) -> str | None:
        """What the UNet needs that no family here provides, or `None`."""
        config, channels = self.unet.config, self.latent_channels
        if config.get("encoder_hid_dim_type") == "ip_image_proj":
            return "an IP-Adapter's image; call `unload_ip_adapter()` on the pipeline that loaded it"
        if config.in_channels != channels:
            return (
                f"{config.in_channels} input channels where the VAE gives {channels}, as inpainting models do"
            )
        if config.get("time_cond_proj_dim") is not None:
            return "an embedded guidance scale, as latent consistency models do"
        if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
            return "class labels, as upscalers do"
        return None
