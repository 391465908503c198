"""What an edit of attention does with words: which ones keep it, how strongly, and where edits blend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import PIL.Image
import torch

from semantic_edit.attention_processors.swaps import PromptSwaps
from semantic_edit.attention_processors.tokens import PromptTokens, align, token_factors, tokens_of
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import shortened
from semantic_edit.pipelines.ranges import NUMBERS, PER_WORD


@dataclass(frozen=True)
class RestyleSettings:
    """How much of the source's attention an edit keeps; names and units are those of [`StyleDiffusionPipeline`]."""

    tau_v: float = 0.6
    tau_c: float = 0.6
    tau_s: float = 0.8
    tau_u: float = 0.5
    word_tau_c: Mapping[str, float] = field(default_factory=dict)
    edit_type: str | None = None
    reweight: Mapping[str, float] = field(default_factory=dict)
    local_blend: Sequence[str] = ()
    local_blend_threshold: float = 0.3
    self_attention_side: int | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> RestyleSettings:
        """The settings in a call's arguments; `None` stands for a setting's default.

        Raises:
            ValueError, TypeError: Naming the first that cannot be used.
        """
        named = {field.name: arguments[field.name] for field in fields(cls)}
        given = {name: value for name, value in named.items() if value is not None}
        return cls(**{**given, "local_blend": read_blended(given.get("local_blend"))})

    def __post_init__(self) -> None:
        for name in PER_WORD:
            object.__setattr__(self, name, _read_words(name, getattr(self, name)))
        if self.edit_type is not None and (
            not isinstance(self.edit_type, str) or self.edit_type not in ("replace", "refine")
        ):
            raise ValueError(
                f'`edit_type` must be "replace", "refine" or None to choose by the prompts, got {self.edit_type!r}.'
            )


def read_blended(given: Any) -> tuple[str, ...]:
    """The words of `local_blend`, which may be one word, several or `None`.

    Raises:
        TypeError: If it is something else.
    """
    words = (given,) if isinstance(given, str) else () if given is None else given
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"`local_blend` must be a word or a list of words, got {given!r}.")
    return tuple(words)


def _read_words(name: str, values: Any) -> dict[str, float]:
    """A number for each word, checked against the argument's range."""
    if not isinstance(values, Mapping) or not all(isinstance(word, str) for word in values):
        raise TypeError(
            f'`{name}` must be a dict from words to numbers, such as {{"apple": 0.5}}, got {shortened(values)}.'
        )
    return {word: read_number(f"{name}[{word!r}]", value, *NUMBERS[name]) for word, value in values.items()}


@dataclass(frozen=True)
class PromptRows:
    """The source prompt and the T target prompts, as tokens and as the schedule of their swaps.

    tokens: Of each row, the source's first.
    swaps: When and how the targets' attention is swapped.
    blended: For each row, the tokens whose regions LocalBlend keeps; () for rows without such a word.
    """

    tokens: tuple[PromptTokens, ...]
    swaps: PromptSwaps
    blended: tuple[tuple[int, ...], ...]

    @property
    def targets(self) -> int:
        """The number of edits."""
        return len(self.tokens) - 1

    def to(self, device: torch.device) -> PromptRows:
        """The same with the tensors of the swaps on a device."""
        names = ("matrices", "shared", "factors", "cross_until")
        moved = {name: getattr(self.swaps, name).to(device) for name in names}
        return replace(self, swaps=replace(self.swaps, **moved))


def read_prompt_rows(prompts: Sequence[PromptTokens], settings: RestyleSettings) -> PromptRows:
    """Align every target prompt with the source's, and find the words that the settings name.

    Args:
        prompts: The source's, then the targets'.
        settings: Of the call.

    Raises:
        ValueError: If a prompt cannot be aligned, or a word is in none of the prompts that it could be in.
    """
    tokens = tuple(prompts)
    alignments = [align(tokens[0], target, settings.edit_type) for target in tokens[1:]]  # type: ignore[arg-type]
    return PromptRows(
        tokens=tokens,
        swaps=PromptSwaps(
            matrices=torch.stack([alignment.matrix for alignment in alignments]),
            shared=torch.stack([alignment.shared for alignment in alignments]),
            factors=_word_factors("reweight", tokens[1:], settings.reweight, 1.0),
            cross_until=_word_factors("word_tau_c", tokens[1:], settings.word_tau_c, settings.tau_c),
            self_until=settings.tau_s,
            unconditional_self_until=settings.tau_u,
        ),
        blended=blended_tokens(tokens, settings.local_blend),
    )


def _owners(argument: str, prompts: Sequence[PromptTokens], word: str) -> list[int]:
    """Which prompts contain a word; raises a ValueError if none does, saying why for each."""
    rows, reasons = [], []
    for row, tokens in enumerate(prompts):
        try:
            tokens_of(tokens, word)
            rows.append(row)
        except ValueError as error:
            reasons.append(str(error))
    if not rows:
        listed = " ".join(dict.fromkeys(reasons))
        raise ValueError(f"`{argument}` does not fit the prompts: {listed}")
    return rows


def _word_factors(
    argument: str, prompts: Sequence[PromptTokens], values: Mapping[str, float], default: float
) -> torch.Tensor:
    """(prompts, tokens): each word's value in those prompts that contain it."""
    owners = {word: _owners(argument, prompts, word) for word in values}
    rows = []
    for row, tokens in enumerate(prompts):
        own = {word: value for word, value in values.items() if row in owners[word]}
        rows.append(token_factors(tokens, own, default))
    return torch.stack(rows)


def blended_tokens(prompts: Sequence[PromptTokens], words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """For each prompt, its tokens of LocalBlend's words.

    Raises:
        ValueError: If a word is in none of the prompts.
    """
    blended: list[tuple[int, ...]] = [() for _ in prompts]
    for word in words:
        for row in _owners("local_blend", prompts, word):
            blended[row] += tokens_of(prompts[row], word)
    return tuple(blended)


def word_images(
    prompts: Sequence[PromptTokens], maps: torch.Tensor, size: tuple[int, int]
) -> list[dict[str, PIL.Image.Image]]:
    """For each row, a heat map of each of its words.

    A word that occurs more than once has a single map, the mean of them all.

    Args:
        prompts: One for each row.
        maps: (prompts, rows, columns, tokens).
        size: (width, height) of the images.

    Returns:
        For each row greyscale images by word, each with its maximum white.
    """
    images: list[dict[str, PIL.Image.Image]] = []
    for row, tokens in enumerate(prompts):
        covered: dict[str, list[int]] = {}
        for word in tokens.words:
            if word.tokens:  # words beyond the last token that the model reads have none
                covered.setdefault(word.text, []).extend(word.tokens)
        own = {}
        for text, indices in covered.items():
            heat = maps[row, :, :, indices].mean(dim=-1)
            levels = (255 * heat / heat.max().clamp(min=1e-12)).round().byte().cpu().numpy()
            own[text] = PIL.Image.fromarray(levels).resize(size, PIL.Image.Resampling.BICUBIC)
        images.append(own)
    return images
