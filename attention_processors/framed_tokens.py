"""Words of a prompt that a language model reads inside a chat template, by its place among the embeddings."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import PromptTokens, spans_by_text, words_of

A_PROMPT = "\ue000"  # stands for a prompt in a template, and in no prompt


@dataclass(frozen=True)
class FramedPrompt:
    """A prompt and the parts of the template around it."""

    before: str
    prompt: str
    after: str

    @staticmethod
    def of_user(tokenizer: Any, text: str, **options: Any) -> FramedPrompt:
        """What a user says, in a tokenizer's own chat template, before the answer.

        Args:
            tokenizer: With a chat template.
            text: The prompt.
            options: Of the template.
        """

        def in_template(content: str) -> str:
            messages = [{"role": "user", "content": content}]
            return tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **options
            )

        before, after = in_template(A_PROMPT).split(A_PROMPT)
        whole = in_template(text)
        return FramedPrompt(before, whole[len(before) : len(whole) - len(after)], after)


@dataclass(frozen=True)
class TokenRange:
    """Which of a text's tokens become embeddings that the network receives.

    longest: Number of tokens to which the text is truncated.
    dropped: Number of tokens that are left out at the beginning.
    kept: Largest number of those that follow.
    """

    longest: int
    dropped: int = 0
    kept: int | None = None


def tokenize_framed(
    tokenizer: PreTrainedTokenizerBase, framed: FramedPrompt, taken: TokenRange
) -> PromptTokens:
    """Tokenize a prompt with its template and find the words; indices are those of the embeddings, without padding.

    Args:
        tokenizer: Without offsets, the texts of its tokens are matched against the prompt.
        framed: The prompt.
        taken: The tokens that count.
    """
    prompt = unicodedata.normalize("NFC", framed.prompt)
    text = framed.before + prompt + framed.after
    with lock_of(tokenizer):
        encoded = tokenizer(
            text, max_length=taken.longest, truncation=True, return_offsets_mapping=tokenizer.is_fast
        )
    ids = encoded["input_ids"]
    spans = encoded["offset_mapping"] if tokenizer.is_fast else spans_by_text(tokenizer, ids, text)
    stop = None if taken.kept is None else taken.dropped + taken.kept
    start = len(framed.before)
    ids = tuple(ids[taken.dropped : stop])
    spans = [(first - start, last - start) for first, last in spans[taken.dropped : stop]]
    inside = [index for index, (first, last) in enumerate(spans) if first < len(prompt) and last > 0]
    text_start = inside[0] if inside else sum(last <= 0 for _, last in spans)
    text_end = inside[-1] + 1 if inside else text_start
    words = words_of(prompt, spans)
    # the template ends with tokens of its own, so whatever the last token does not reach was cut off
    end = min(max(spans[-1][1], 0), len(prompt)) if spans else 0
    end = next((word.start for word in words if word.start < end < word.end), end)
    return PromptTokens(prompt, ids, words, text_start, text_end, len(ids), prompt[end:].strip())
