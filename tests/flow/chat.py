"""A tiny tokenizer of the kind that Qwen's language models have."""

from __future__ import annotations

import functools

from tokenizers import trainers
from transformers import Qwen2Tokenizer

from semantic_edit.pipelines.components_qwen import QWEN_TEMPLATE
from tests.conftest import WORDS

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@functools.cache
def chat_tokenizer() -> Qwen2Tokenizer:
    """Byte-level, with a token for each word of Qwen-Image's template and most of the tests' words."""
    tokenizer = Qwen2Tokenizer()
    words = [f"{blank}{word}" for word in WORDS for blank in ("", " ")]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=SPECIAL, initial_alphabet=_bytes(), show_progress=False
    )
    tokenizer.backend_tokenizer.train_from_iterator([QWEN_TEMPLATE, *words] * 2, trainer)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 2048
    return tokenizer


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()
