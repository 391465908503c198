"""Prompts longer than the text encoder reads: one warning, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from logging import LogRecord, getLogger
from typing import Any

from transformers import PreTrainedTokenizerBase

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import tokenize_prompt
from semantic_edit.disk.telling import warn_caller

MOST_SHOWN = 300  # characters
OTHERS_WORDS = ("The following part of your input was truncated", "Token indices sequence length is longer")
OTHERS_LOGGERS = (
    "diffusers.pipelines.flux.pipeline_flux",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "transformers.tokenization_utils_base",
)


def as_read(pipe: Any, text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A text with textual inversions in their place, in families whose pipelines load them."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return text if convert is None else convert(text, tokenizer)


def warn_of_truncation(
    pipe: Any, tokenizers: Sequence[tuple[PreTrainedTokenizerBase, int]], name: str, texts: Sequence[str]
) -> None:
    """Say which words of a prompt are cut off; only once if all its tokenizers cut off the same.

    Args:
        pipe: The pipeline.
        tokenizers: Those that read the texts, each with the number of tokens that it reads.
        name: The argument that the texts came from.
        texts: The texts.
    """
    for text in texts:
        told = set()
        for tokenizer, length in tokenizers:
            with lock_of(tokenizer), truncation_told():
                cut_off = tokenize_prompt(tokenizer, as_read(pipe, text, tokenizer), length).cut_off
            if cut_off and cut_off not in told:
                told.add(cut_off)
                warn_of_cut_off(name, length, cut_off)


def warn_of_cut_off(name: str, length: int, cut_off: str) -> None:
    """Say which words of a prompt are cut off after so many tokens."""
    shown = f"{cut_off[:MOST_SHOWN]!r}{'' if len(cut_off) <= MOST_SHOWN else ' and more'}"
    warn_caller(
        f"`{name}` is longer than the {length} tokens that the text encoder reads; what is cut off: {shown}."
    )


@contextmanager
def truncation_told() -> Iterator[None]:
    """Suppress the libraries' own messages about truncation: hundreds of end tokens, of all prompts together."""

    def is_something_else(record: LogRecord) -> bool:
        return not record.getMessage().startswith(OTHERS_WORDS)

    with ExitStack() as stack:
        for logger in map(getLogger, OTHERS_LOGGERS):
            logger.addFilter(is_something_else)
            stack.callback(logger.removeFilter, is_something_else)
        yield
