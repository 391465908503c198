from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from semantic_edit.attention_processors.tokens import (
    align,
    refinement_matrix,
    replacement_matrix,
    token_factors,
    tokenize_prompt,
    tokens_of,
)
from semantic_edit.still_life import model_path

# A column of a matrix: the source token that it takes, weights of several, or None for none.
Column = int | dict[int, float] | None
MUG_BY_3: Column = {2: 1 / 3}
FOX_WHOLE: Column = {2: 1.0, 3: 1.0, 4: 1.0}
FOX_BY_2: Column = {2: 0.5, 3: 0.5, 4: 0.5}

# "fox" has the tokens f, o, x</w> and "ox" two; the other words have one. Columns behind those given map to
# themselves: padding takes the padding at its position.
REPLACED: dict[str, tuple[str, str, list[Column]]] = {
    "same prompt": ("a red apple", "a red apple", [0, 1, 2, 3, 4]),
    "one word": ("a red apple on grass", "a blue apple on grass", [0, 1, 2, 3, 4, 5, 6]),
    "1 to 3 tokens": ("a mug on grass", "a fox on grass", [0, 1, MUG_BY_3, MUG_BY_3, MUG_BY_3, 3, 4, 5]),
    "3 to 1 token": ("a fox on grass", "a mug on grass", [0, 1, FOX_WHOLE, 5, 6, 7, 8, 8]),
    "3 to 2 tokens": ("a fox", "a ox", [0, 1, FOX_BY_2, FOX_BY_2, 5, 6]),
    "a word twice": ("a mug on a mug", "a fox on a pear", [0, 1, MUG_BY_3, MUG_BY_3, MUG_BY_3, 3, 4, 5, 6]),
    "punctuation kept": ("a mug, red", "a fox, red", [0, 1, MUG_BY_3, MUG_BY_3, MUG_BY_3, 3, 4, 5]),
    "punctuation added": ("a red apple", "a red, pear", [0, 1, 2, None, 3, 4]),
    "punctuation removed": ("a red, apple", "a red pear", [0, 1, 2, 4, 5, 6]),
    "no words": ("", "", []),
}
REFINED: dict[str, tuple[str, str, list[Column]]] = {
    "same prompt": ("a red apple", "a red apple", []),
    "adjective inserted": ("an apple on grass", "an red apple on grass", [0, 1, None, 2, 3, 4, 5]),
    "word removed": ("a red apple on grass", "a apple on grass", [0, 1, 3, 4, 5, 6, 7]),
    "phrase appended": ("a mug", "a mug on an apple", [0, 1, 2, None, None, None, 3]),
    "new word of 3 tokens": ("a mug on grass", "a red fox on grass", [0, 1, None, None, None, None, 3, 4, 5]),
    "phrase repeated": ("a mug", "a mug a mug", [0, 1, 2, None, None, 3]),
    "repetition removed": ("a mug a mug", "a mug", [0, 1, 2, 5, 6, 6]),
    "punctuation": ("a red apple", "a red, blue apple", [0, 1, 2, None, None, 3, 4]),
    "from nothing": ("", "a mug", [0, None, None, 1]),
}
PIECES = ("a", "red", "Apple", "mug", "fox", "ox", ",", "grass,", "<red>")
prompts = st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)


def _matrix(columns: list[Column], size: int) -> torch.Tensor:
    matrix = torch.eye(size)
    for index, column in enumerate(columns):
        matrix[:, index] = 0.0
        for source, weight in (column if isinstance(column, dict) else {column: 1.0}).items():
            if source is not None:
                matrix[source, index] = weight
    return matrix


class WithoutOffsets:
    """A fast tokenizer without the abilities that CLIPTokenizer gained in transformers 5."""

    is_fast = False

    def __init__(self, tokenizer: CLIPTokenizer, byte_decoder: dict[str, int] | None = None) -> None:
        self.tokenizer, self.byte_decoder = tokenizer, byte_decoder or {}

    def __call__(self, text: str, return_offsets_mapping: bool = False, **kwargs: Any) -> Any:
        if return_offsets_mapping:
            raise NotImplementedError("return_offset_mapping is not available when using Python tokenizers.")
        return self.tokenizer(text, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


@pytest.fixture(scope="session")
def still_life_tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(model_path() / "tokenizer")


@pytest.mark.parametrize(("source", "target", "columns"), REPLACED.values(), ids=REPLACED)
def test_replacing_moves_each_words_attention(
    tokenizer: CLIPTokenizer, source: str, target: str, columns: list[Column]
):
    alignment = align(tokenize_prompt(tokenizer, source), tokenize_prompt(tokenizer, target))
    assert alignment.kind == "replace"
    assert alignment.matrix.dtype == alignment.shared.dtype == torch.float32
    torch.testing.assert_close(alignment.matrix, _matrix(columns, 16), rtol=0, atol=0)
    torch.testing.assert_close(alignment.shared, torch.ones(16), rtol=0, atol=0)


@pytest.mark.parametrize(("source", "target", "columns"), REFINED.values(), ids=REFINED)
def test_refining_takes_the_shared_tokens_columns(
    tokenizer: CLIPTokenizer, source: str, target: str, columns: list[Column]
):
    alignment = align(tokenize_prompt(tokenizer, source), tokenize_prompt(tokenizer, target), "refine")
    assert alignment.matrix.dtype == alignment.shared.dtype == torch.float32
    torch.testing.assert_close(alignment.matrix, _matrix(columns, 16), rtol=0, atol=0)
    new = [index for index, column in enumerate(columns) if column is None]
    assert (alignment.shared == 0).nonzero().flatten().tolist() == new
    assert set(alignment.shared.tolist()) <= {0.0, 1.0}


def test_the_length_is_the_tokenizers(still_life_tokenizer: CLIPTokenizer):
    source = tokenize_prompt(still_life_tokenizer, "a pink apple, on grass")
    target = tokenize_prompt(still_life_tokenizer, "a pink dog, on grass")
    columns: list[Column] = [0, 1, 2, {3: 1 / 3}, {3: 1 / 3}, {3: 1 / 3}, 4, 5, 6, 7]
    expected = _matrix(columns, still_life_tokenizer.model_max_length)
    torch.testing.assert_close(replacement_matrix(source, target), expected, rtol=0, atol=0)


def test_more_words_are_refined_unless_told_otherwise(tokenizer: CLIPTokenizer):
    source, target = (tokenize_prompt(tokenizer, text) for text in ("a mug", "a red mug"))
    assert align(source, target).kind == "refine"
    with pytest.raises(ValueError, match=r"equally many words, got 2 in 'a mug' and 3 in .* Use \"refine\""):
        align(source, target, "replace")
    with pytest.raises(ValueError, match=r"`kind` must be .* got 'swap'"):
        align(source, target, "swap")  # type: ignore[arg-type]


@given(prompt=prompts)
@settings(deadline=None, max_examples=50)
def test_the_same_prompt_is_left_alone(tokenizer: CLIPTokenizer, prompt: str):
    tokens = tokenize_prompt(tokenizer, prompt)
    for kind in ("replace", "refine"):
        alignment = align(tokens, tokens, kind)
        torch.testing.assert_close(alignment.matrix, torch.eye(16), rtol=0, atol=0)
        torch.testing.assert_close(alignment.shared, torch.ones(16), rtol=0, atol=0)


@given(
    pairs=st.lists(st.sampled_from((("a", "fox"), ("fox", "a"), ("ox", "fox"), ("mug", "a"))), max_size=14)
)
@example(pairs=[("fox", "a")] * 5)  # the source fills its 16 tokens
@example(pairs=[("a", "fox")] * 14)
@settings(deadline=None, max_examples=50)
def test_attention_is_neither_lost_nor_made(tokenizer: CLIPTokenizer, pairs: list[tuple[str, str]]):
    source = tokenize_prompt(tokenizer, " ".join(first for first, _ in pairs))
    target = tokenize_prompt(tokenizer, " ".join(second for _, second in pairs))
    matrix = replacement_matrix(source, target)
    columns = torch.ones(16)
    if source.padding_start == 16:
        columns[target.padding_start :] = 0
    for ours, theirs in zip(source.words, target.words, strict=True):
        columns[list(theirs.tokens)] = len(ours.tokens) / max(1, len(theirs.tokens))
        drawn = matrix[list(ours.tokens)].sum(dim=1)
        torch.testing.assert_close(drawn, torch.full_like(drawn, float(bool(theirs.tokens))))
    torch.testing.assert_close(matrix.sum(dim=0), columns)


@given(first=prompts, second=prompts)
@settings(deadline=None, max_examples=50)
def test_refining_matches_equal_tokens_in_order(tokenizer: CLIPTokenizer, first: str, second: str):
    source, target = tokenize_prompt(tokenizer, first), tokenize_prompt(tokenizer, second)
    matrix, shared = refinement_matrix(source, target)
    pairs = [(int(matrix[:, column].argmax()), column) for column in shared.nonzero().flatten().tolist()]
    assert matrix.sum() == len(pairs)
    assert all(source.ids[row] == target.ids[column] for row, column in pairs)
    text = [row for row, column in pairs if column < target.padding_start]
    assert text == sorted(set(text))
    assert {text[0], text[-1]} == {0, source.padding_start - 1}  # start and end are each other's


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("apple", (2,)),
        ("APPLE,", (2,)),
        ("fox", (4, 5, 6)),
        ("a", (1, 9)),
        ("on a mug", (8, 9, 10)),
        ("apple fox", (2, 4, 5, 6)),
    ],
)
def test_the_tokens_of_words_and_phrases(tokenizer: CLIPTokenizer, word: str, expected: tuple[int, ...]):
    assert tokens_of(tokenize_prompt(tokenizer, "A apple, fox, on a mug"), word) == expected


def test_apostrophes_and_hyphens_belong_to_the_word(still_life_tokenizer: CLIPTokenizer):
    tokens = tokenize_prompt(still_life_tokenizer, "a dog's t-shirt")
    assert [(word.text, word.start, word.end) for word in tokens.words] == [
        ("a", 0, 1),
        ("dog's", 2, 7),
        ("t-shirt", 8, 15),
    ]
    assert tokens_of(tokens, "Dog\u2019s") == (2, 3, 4, 5, 6)  # d o g ' s
    assert tokens_of(tokens, "t-shirt") == (7, 8, 9, 10, 11, 12, 13)


def test_accents_are_one_letter_however_they_are_written(tokenizer: CLIPTokenizer):
    tokens = tokenize_prompt(tokenizer, "a cafe\u0301 on grass")
    assert [word.text for word in tokens.words] == ["a", "caf\u00e9", "on", "grass"]
    assert tokens_of(tokens, "cafe\u0301") == tokens_of(tokens, "caf\u00e9") != ()


def test_padding_is_known_by_the_tokenizers_mask(tokenizer: CLIPTokenizer):
    other = copy.deepcopy(tokenizer)
    other.pad_token = ",</w>"  # as Stable Diffusion 2 pads with "!"
    tokens = tokenize_prompt(other, "a mug,")
    assert (tokens.text_start, tokens.text_end, tokens.padding_start) == (1, 4, 5)
    assert tokens.ids[3] == tokens.ids[5] == other.pad_token_id


def test_words_that_cannot_be_found(tokenizer: CLIPTokenizer):
    tokens = tokenize_prompt(tokenizer, "a mug, a pear")
    with pytest.raises(ValueError, match=r"'pea' is not in the prompt .* one of its words: a, mug, pear"):
        tokens_of(tokens, "pea")
    with pytest.raises(ValueError, match=r"'mug pear' is not in the prompt"):
        tokens_of(tokens, "mug pear")
    with pytest.raises(ValueError, match=r"needs a letter or a digit, got ','"):
        tokens_of(tokens, ",")
    with pytest.raises(ValueError, match=r"'mug' is not in the prompt ''.* which has none"):
        tokens_of(tokenize_prompt(tokenizer, ""), "mug")


def test_the_edge_of_the_prompt(tokenizer: CLIPTokenizer):
    """14 of the 16 tokens are text: the second fox keeps two of its three tokens, the pear none."""
    tokens = tokenize_prompt(tokenizer, "a mug on a mug on a red red fox fox pear")
    assert (tokens.text_end, tokens.padding_start) == (15, 16)
    assert tokens_of(tokens, "fox") == (10, 11, 12, 13, 14)
    with pytest.raises(ValueError, match=r"'pear' was cut off: the text encoder takes 16 tokens"):
        tokens_of(tokens, "pear")
    with pytest.raises(ValueError, match=r"'fox pear' was cut off"):
        tokens_of(tokens, "fox pear")
    shorter = tokenize_prompt(tokenizer, "a mug on a mug on a red red mug fox pear")
    matrix = replacement_matrix(tokens, shorter)
    half = {13: 1 / 3, 14: 1 / 3}  # two tokens of the cut fox for three
    columns: list[Column] = [*range(10), {10: 1.0, 11: 1.0, 12: 1.0}, half, half, half, None, 15]
    torch.testing.assert_close(matrix, _matrix(columns, 16), rtol=0, atol=0)


def test_factors_of_words(tokenizer: CLIPTokenizer):
    tokens = tokenize_prompt(tokenizer, "a red apple, a fox")
    factors = token_factors(tokens, {"red apple": 2.0, "Apple": -0.5, "fox": 0}, default=0.25)
    expected = [0.25, 0.25, 2.0, -0.5, 0.25, 0.25, 0.0, 0.0, 0.0, *[0.25] * 7]
    torch.testing.assert_close(factors, torch.tensor(expected), rtol=0, atol=0)
    torch.testing.assert_close(token_factors(tokens, {}), torch.ones(16), rtol=0, atol=0)


def test_factors_that_are_refused(tokenizer: CLIPTokenizer):
    tokens = tokenize_prompt(tokenizer, "a red apple")
    with pytest.raises(ValueError, match=r"factor of red must be a finite number, got nan"):
        token_factors(tokens, {"red": float("nan")})
    with pytest.raises(ValueError, match=r"factor of `default` must be a finite number, got inf"):
        token_factors(tokens, {"red": 1.0}, default=float("inf"))
    with pytest.raises(ValueError, match=r"'green' is not in the prompt"):
        token_factors(tokens, {"green": 1.0})


@given(prompt=st.text(alphabet="abdgo A-',\n", max_size=30))
@example(prompt="a dog's t-shirt, (dog)! on a<|endoftext|>pink apple")
@example(prompt="on grass \u00e9\u00e9")
@settings(deadline=None, max_examples=50)
def test_without_offsets_the_same_words_are_found(still_life_tokenizer: CLIPTokenizer, prompt: str):
    expected = tokenize_prompt(still_life_tokenizer, prompt)
    actual = tokenize_prompt(WithoutOffsets(still_life_tokenizer), prompt)  # type: ignore[arg-type]
    assert actual == expected


def test_without_offsets_any_script_is_read_by_its_bytes(tmp_path: Path):
    """A vocabulary of the 256 bytes in CLIP's notation, where unprintable bytes are letters from code 256 upwards."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    byte_decoder = {chr(byte): byte for byte in printing} | {
        chr(256 + i): each for i, each in enumerate(others)
    }
    pieces = [
        *byte_decoder,
        *(f"{letter}</w>" for letter in byte_decoder),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=77)
    tokenizer.add_tokens(["<Cat-toy>"])
    prompt = "Красная собака, na\u00efve <Cat-toy> \u732b"
    actual = tokenize_prompt(WithoutOffsets(tokenizer, byte_decoder), prompt)  # type: ignore[arg-type]
    assert actual == tokenize_prompt(tokenizer, prompt)
    assert [len(word.tokens) for word in actual.words] == [14, 12, 6, 1, 3]
