"""Prompts as embeddings. The encoding itself is diffusers'; what is here decides what is encoded, once each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import is_peft_available, scale_lora_layers, unscale_lora_layers

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import check_padded
from semantic_edit.disk.reading import is_utf8, shortened
from semantic_edit.editing.finite import FiniteWatch
from semantic_edit.editing.numbers import check_dense
from semantic_edit.pipelines.truncation import truncation_told, warn_of_truncation
from semantic_edit.pipelines.vocabulary import warn_of_unknown_words


@dataclass(frozen=True)
class Prompt:
    """One side's text or embeddings, checked: exactly one of the two is set.

    name: The argument that it came from, for error messages.
    texts: One per edit, or one for all.
    embeds: (batch, tokens, width) instead.
    unconditional: Whether it is encoded as diffusers encodes negative prompts, without `clip_skip`.
    instead: What may be passed where text cannot be encoded; by default the argument's `_embeds` twin.
    """

    name: str
    texts: tuple[str, ...] | None = None
    embeds: torch.Tensor | None = None
    unconditional: bool = False
    instead: str = ""

    @property
    def batch_size(self) -> int:
        """How many prompts there are."""
        if self.embeds is not None:
            return self.embeds.shape[0]
        return len(self.texts or ())

    def same_as(self, other: Prompt) -> bool:
        """Whether the two are known to give the same embeddings for every edit."""
        if self.unconditional != other.unconditional:
            return False
        if self.embeds is not None and other.embeds is not None:
            return self.embeds is other.embeds or torch.equal(self.embeds, other.embeds)
        if self.texts is None or other.texts is None:
            return False
        return self.texts == other.texts or len({*self.texts, *other.texts}) == 1


def read_prompt(
    name: str,
    text: str | Sequence[str] | None,
    embeds: torch.Tensor | None,
    width: int | None = None,
    default: str | None = None,
    unconditional: bool = False,
) -> Prompt:
    """Check one prompt argument and its `_embeds` twin.

    Args:
        name: The argument's name; its twin is `name` + "_embeds".
        width: Width that the UNet's cross attention takes, to check embeddings against.
        default: Text where neither is given; `None` makes giving neither an error.

    Raises:
        ValueError: If both or neither are given, text holds what is no character, or embeddings have another shape,
            type or width.
        TypeError: If the text is neither a string nor a list of strings.
    """
    if text is not None and embeds is not None:
        raise ValueError(f"Got both `{name}` and `{name}_embeds`; pass only one of the two.")
    if embeds is not None:
        _check_embeds(f"{name}_embeds", embeds, width)
        return Prompt(name, embeds=embeds, unconditional=unconditional)
    if text is None:
        if default is None:
            raise ValueError(f"Got neither `{name}` nor `{name}_embeds`; pass one of the two.")
        text = default
    texts = (text,) if isinstance(text, str) else text
    if not isinstance(texts, (list, tuple)) or not all(isinstance(one, str) for one in texts):
        raise TypeError(f"`{name}` must be a string or a list of strings, got {text!r}.")
    if not texts:
        raise ValueError(f"`{name}` is an empty list; pass one string, or one for each picture.")
    for one in texts:
        if not is_utf8(one):
            raise ValueError(
                f"`{name}` must be text that can be encoded in UTF-8, got {shortened(one)}, which holds half of a "
                'surrogate pair; `text.encode("utf-8", "replace").decode()` puts "?" in its place.'
            )
    return Prompt(name, texts=tuple(texts), unconditional=unconditional)


def _check_embeds(name: str, embeds: torch.Tensor, width: int | None) -> None:
    if not isinstance(embeds, torch.Tensor) or not embeds.is_floating_point():
        kind = embeds.dtype if isinstance(embeds, torch.Tensor) else type(embeds).__name__
        raise ValueError(f"`{name}` must be a floating-point tensor, got {kind}.")
    check_dense(name, embeds)
    if embeds.ndim != 3 or 0 in embeds.shape:
        raise ValueError(f"`{name}` must have shape (batch, tokens, width), got {tuple(embeds.shape)}.")
    if width is not None and embeds.shape[-1] != width:
        raise ValueError(
            f"`{name}` is {embeds.shape[-1]} wide, but the UNet's cross attention takes {width}. Encode the "
            "prompt with this pipeline's own text encoder."
        )
    if not torch.isfinite(embeds).all():
        raise ValueError(f"`{name}` holds NaN or infinite values.")


def check_token_counts(**embeds: torch.Tensor | None) -> None:
    """Refuse embeddings with different numbers of tokens, which the UNet cannot take in one batch.

    Args:
        embeds: (batch, tokens, width) each, by the argument's name, or `None`.
    """
    counts = {name: value.shape[1] for name, value in embeds.items() if value is not None}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        raise ValueError(
            f"Prompts must be embedded with the same number of tokens, got {listed}. Pad the shorter ones, "
            "or pass all of them as embeddings."
        )


def common_batch_size(**counts: int) -> int:
    """The number of edits: what every argument has one of, or has exactly one to share among all.

    Args:
        counts: How many of each argument there are, by the argument's name.

    Raises:
        ValueError: If two arguments have different numbers above one.
    """
    batch_size = max(counts.values())
    if any(count not in (1, batch_size) for count in counts.values()):
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        raise ValueError(
            f"The arguments do not match in number: {listed}. Pass one of each for all edits, or one for "
            "each edit."
        )
    return batch_size


@torch.no_grad()
def encode_prompts(
    pipe: Any,
    prompts: Sequence[Prompt | None],
    batch_size: int,
    cross_attention_kwargs: dict[str, Any] | None = None,
    clip_skip: int | None = None,
) -> list[torch.Tensor | None]:
    """Embeddings of several prompt arguments, every different text encoded once, by `pipe.encode_prompt`.

    One thread at a time encodes with a tokenizer: how it pads and cuts is kept in it.

    Args:
        pipe: A pipeline with diffusers' `encode_prompt`, `unet` and `text_encoder`.
        prompts: The arguments; `None` stays `None`.
        batch_size: The number of edits, to which each argument is expanded.
        cross_attention_kwargs: "scale" is the LoRA scale, which reaches the text encoder too.
        clip_skip: Layers of the text encoder to skip, for all but unconditional prompts, as in diffusers.

    Returns:
        For each argument (batch_size, tokens, width) in the UNet's type, or `None`.

    Raises:
        ValueError: If text is given but the pipeline has no text encoder, or lengths differ from given ones.
        FloatingPointError: If embeddings are NaN or infinite in the UNet's type.
        RuntimeError: If somebody else used the tokenizer at the same time.
    """
    rows: dict[tuple[str, bool], torch.Tensor] = {}
    wanted = [prompt for prompt in prompts if prompt is not None and prompt.texts is not None]
    if wanted and (pipe.text_encoder is None or pipe.tokenizer is None):
        raise ValueError(
            f"`{wanted[0].name}` is text, but this pipeline has no text encoder and tokenizer; pass "
            f"{wanted[0].instead or f'`{wanted[0].name}_embeds`'} instead."
        )
    placed = {"device": pipe._execution_device, "dtype": pipe.unet.dtype}  # each walks through all modules
    for prompt in wanted:
        warn_of_truncation(pipe, prompt.name, prompt.texts or ())
    if wanted:
        warn_of_unknown_words(pipe, [text for prompt in wanted for text in prompt.texts or ()])
    lora_scale = (cross_attention_kwargs or {}).get("scale")
    # without clip_skip both kinds are encoded alike, and share their rows
    for plain in (False, True):
        keys = dict.fromkeys(
            (text, prompt.unconditional and clip_skip is not None)
            for prompt in wanted
            for text in prompt.texts or ()
        )
        texts = [text for text, unconditional in keys if unconditional == plain]
        if not texts:
            continue
        with lock_of(pipe.tokenizer), truncation_told(), restored_lora_scale(pipe.text_encoder):
            embeds = _encode_texts(pipe, texts, placed["device"], lora_scale, None if plain else clip_skip)
        check_padded(pipe.tokenizer, embeds.shape[1])
        rows.update({(text, plain): row for text, row in zip(texts, embeds, strict=True)})

    def embedded(prompt: Prompt | None) -> torch.Tensor | None:
        if prompt is None:
            return None
        if prompt.embeds is not None:
            embeds = prompt.embeds
        else:
            plain = prompt.unconditional and clip_skip is not None
            embeds = torch.stack([rows[text, plain] for text in prompt.texts or ()])
        embeds = embeds.to(**placed)
        return embeds.expand(batch_size, -1, -1) if embeds.shape[0] == 1 else embeds

    watch, given = FiniteWatch(), [embedded(prompt) for prompt in prompts]
    for asked, values in zip(prompts, given, strict=True):
        if asked is not None and values is not None:
            watch.see(f"the embeddings of `{asked.name}`", values)
    watch.check()
    return given


def _encode_texts(
    pipe: Any, texts: list[str], device: torch.device, lora_scale: float | None, clip_skip: int | None
) -> torch.Tensor:
    """(texts, tokens, width), by diffusers' `encode_prompt` wherever that works."""
    encoder = pipe.text_encoder
    if clip_skip is None or hasattr(encoder, "text_model"):
        return pipe.encode_prompt(texts, device, 1, False, lora_scale=lora_scale, clip_skip=clip_skip)[0]
    # transformers 5 made the text model and its wrapper one, and diffusers' clip_skip still asks for the inner one
    inputs = pipe.tokenizer(
        pipe.maybe_convert_prompt(texts, pipe.tokenizer),
        padding="max_length",
        max_length=pipe.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).to(device)
    masked = getattr(encoder.config, "use_attention_mask", False)
    try:
        if lora_scale is not None:
            scale_lora_layers(encoder, lora_scale)
        hidden_states = encoder(
            inputs.input_ids,
            attention_mask=inputs.attention_mask if masked else None,
            output_hidden_states=True,
        ).hidden_states
    finally:
        if lora_scale is not None:
            unscale_lora_layers(encoder, lora_scale)
    return encoder.final_layer_norm(hidden_states[-(clip_skip + 1)])


@contextmanager
def restored_lora_scale(model: torch.nn.Module | None) -> Iterator[None]:
    """Put every LoRA layer's scale back after the block, also if the block was interrupted half-way."""
    if model is None or not is_peft_available():
        yield
        return
    # in these words, or diffusers warns those who load this as a custom pipeline that they lack peft
    import peft.tuners.tuners_utils as tuners

    adapters = (module for module in model.modules() if isinstance(module, tuners.BaseTunerLayer))
    layers = [layer for layer in adapters if hasattr(layer, "scaling")]  # OFT's, for one, have no scale
    before = [dict(layer.scaling) for layer in layers]
    try:
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)
