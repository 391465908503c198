"""The prompts that a call was given, as text or as embeddings, checked before anything is encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from semantic_edit.disk.reading import is_utf8, shortened
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.numbers import check_dense


@dataclass(frozen=True, eq=False)
class PromptInput:
    """One prompt as a caller gave it, unchecked.

    name: The argument for `text`; the others are `name_2`, `name_3`, `name_embeds` and `pooled_name_embeds`.
    others: For families with further text encoders, the text that each of them reads.
    pooled_embeds: For families with pooled embeddings.
    embeds_mask: For families whose prompts have as many tokens as their text needs: 1 where `embeds` holds a token.
    """

    name: str
    text: Any = None
    others: tuple[Any, ...] = (None, None)
    embeds: Any = None
    pooled_embeds: Any = None
    embeds_mask: Any = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any], name: str) -> PromptInput:
        """What a call's arguments contain under a prompt's names."""
        made = cls(name)
        return cls(
            name,
            arguments.get(name),
            tuple(arguments.get(other) for other in made.other_names),
            arguments.get(made.embeds_name),
            arguments.get(made.pooled_name),
            arguments.get(made.mask_name),
        )

    @property
    def other_names(self) -> tuple[str, ...]:
        """The arguments for `others`."""
        return tuple(f"{self.name}_{number}" for number in (2, 3))

    @property
    def embeds_name(self) -> str:
        """The argument for `embeds`."""
        return f"{self.name}_embeds"

    @property
    def pooled_name(self) -> str:
        """The argument for `pooled_embeds`, for example "negative_pooled_prompt_embeds"."""
        return f"{self.name.removesuffix('prompt')}pooled_prompt_embeds"

    @property
    def mask_name(self) -> str:
        """The argument for `embeds_mask`."""
        return f"{self.embeds_name}_mask"

    @property
    def is_given(self) -> bool:
        """Whether anything was given."""
        return any(one is not None for one in (self.text, *self.others, self.embeds, self.pooled_embeds))


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt, checked: either `texts` or `embeds` is set.

    name: The argument that it came from, for error messages.
    texts: One per edit, or one for all.
    others: As many for each further text encoder of the family; `None` where it reads the same ones.
    embeds: One per edit, or one for all.
    unconditional: Whether it is encoded as diffusers encodes negative prompts, without `clip_skip`.
    is_absent: Whether it was not given, in families where that differs from an empty text.
    instead: What may be passed if text cannot be encoded; by default the corresponding `_embeds` argument.
    """

    name: str
    texts: tuple[str, ...] | None = None
    others: tuple[tuple[str, ...] | None, ...] = ()
    embeds: Conditioning | None = None
    unconditional: bool = False
    is_absent: bool = False
    instead: str = ""

    @property
    def batch_size(self) -> int:
        """The number of prompts."""
        if self.embeds is not None:
            return len(self.embeds)
        return max(len(one or ()) for one in (self.texts, *self.others))

    @property
    def is_empty(self) -> bool:
        """Whether it is known to say nothing."""
        return self.texts == ("",) and all(one in (None, ("",)) for one in self.others)

    @property
    def readings(self) -> list[tuple[str, ...]]:
        """For each prompt, the text that each of the family's encoders reads."""
        if self.texts is None:
            return []
        columns = [self.texts if one is None else one for one in (self.texts, *self.others)]
        return list(zip(*(one * (self.batch_size // len(one)) for one in columns), strict=True))

    def same_as(self, other: Prompt) -> bool:
        """Whether the two are known to give the same embeddings for every edit."""
        if (self.unconditional, self.is_absent) != (other.unconditional, other.is_absent):
            return False
        if self.embeds is not None and other.embeds is not None:
            return self.embeds.equals(other.embeds)
        if self.texts is None or other.texts is None:
            return False
        return self.readings == other.readings or len({*self.readings, *other.readings}) == 1


def read_texts(name: str, text: Any) -> tuple[str, ...]:
    """Check one text or several.

    Args:
        name: The argument.
        text: Its value.

    Raises:
        ValueError: If there is none, or one cannot be encoded in UTF-8.
        TypeError: If it is neither a string nor a list of strings.
    """
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
    return tuple(texts)


def check_embeds(
    name: str, embeds: Any, shape: str, width: int | None, network: str = "UNet's cross attention"
) -> None:
    """Raise unless `embeds` can take the place of a text's embeddings.

    Args:
        name: The argument.
        embeds: Its value.
        shape: What its shape must be, in words: "batch, tokens, width" or "batch, width".
        width: Of the last dimension, if known.
        network: What takes embeddings of that width.

    Raises:
        ValueError: Saying what is wrong.
    """
    if not isinstance(embeds, torch.Tensor) or not embeds.is_floating_point():
        kind = embeds.dtype if isinstance(embeds, torch.Tensor) else type(embeds).__name__
        raise ValueError(f"`{name}` must be a floating-point tensor, got {kind}.")
    check_dense(name, embeds)
    if embeds.ndim != shape.count(",") + 1 or 0 in embeds.shape:
        raise ValueError(f"`{name}` must have shape ({shape}), got {tuple(embeds.shape)}.")
    if width is not None and embeds.shape[-1] != width:
        raise ValueError(
            f"`{name}` is {embeds.shape[-1]} wide, but the {network} takes {width}. Encode the "
            "prompt with this pipeline's own text encoder."
        )
    if not torch.isfinite(embeds).all():
        raise ValueError(f"`{name}` holds NaN or infinite values.")


def check_token_counts(**given: Conditioning | None) -> None:
    """Raise if prompts have different numbers of tokens, which the network cannot process in one batch.

    Args:
        given: By the argument's name.

    Raises:
        ValueError: Naming the numbers.
    """
    counts = {name: value.prompt_embeds.shape[1] for name, value in given.items() if value is not None}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        raise ValueError(
            f"Prompts must be embedded with the same number of tokens, got {listed}. Pad the shorter ones, "
            "or pass all of them as embeddings."
        )
