"""Words that a small model was never taught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import tokenize_prompt
from semantic_edit.denoisers.truncation import as_read, truncation_told
from semantic_edit.disk.telling import warn_caller

SMALL_VOCABULARY = 5_000  # tokens; CLIP has 49,408, and splits even rare words that it knows well
MOST_NAMED = 10


def warn_of_unknown_words(pipe: Any, texts: Sequence[str]) -> None:
    """Name the words that a small tokenizer can only spell out, which means that its model does not know them."""
    tokenizer = pipe.tokenizer
    if tokenizer is None or tokenizer.vocab_size > SMALL_VOCABULARY:
        return
    known: set[str] = set()
    unknown: set[str] = set()
    special = set(tokenizer.all_special_ids)  # one of them stands for unknown letters
    added = set(tokenizer.get_added_vocab().values()) - special
    for text in dict.fromkeys(texts):
        with lock_of(tokenizer), truncation_told():
            prompt = tokenize_prompt(tokenizer, as_read(pipe, text, tokenizer))
        for word in prompt.words:
            ids = {prompt.ids[token] for token in word.tokens}
            if ids and word.text.isalpha():
                is_known = ids & added or (len(ids) == 1 and not ids & special)
                (known if is_known else unknown).add(word.text.lower())
    if not unknown:
        return
    named = ", ".join(map(repr, sorted(unknown)[:MOST_NAMED]))
    named += " and others" if len(unknown) > MOST_NAMED else ""
    knows = f"does not know {named}" if known else f"knows none of the prompts' words ({named})"
    warn_caller(
        f"This model {knows}: it was trained on few words, so the results of others are arbitrary. Use words that it "
        "was trained on, or a larger model."
    )
