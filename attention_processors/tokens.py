"""Which tokens a word covers, and which tokens of two prompts correspond to each other.

All indices refer to the padded ids that the text encoder receives, so a matrix of this module can be applied directly
to the columns of a cross-attention map. Source: Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2 and its published code.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from semantic_edit.attention_processors.locks import lock_of

AlignmentKind = Literal["replace", "refine"]

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


@dataclass(frozen=True)
class Word:
    """A run of letters and digits in a prompt, including inner apostrophes and hyphens: "dog," contains "dog".

    start, end: Its characters are `prompt[start:end]`.
    tokens: Ascending indices into the padded ids; only those that truncation left, so none if the word was cut off.
    """

    text: str
    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as its tokenizer sees it.

    prompt: In Unicode's composed form (NFC).
    ids: (tokens,), padded: start tokens, text, end tokens, padding.
    words: In the prompt's order, including those that were cut off.
    text_start, text_end: The text's tokens are `ids[text_start:text_end]`; `ids[:text_start]` are the start tokens.
    padding_start: `ids[text_end:padding_start]` are the end tokens; what follows is padding.
    cut_off: The part of the prompt for which there was no room, from the first incomplete word on.
    """

    prompt: str
    ids: tuple[int, ...]
    words: tuple[Word, ...]
    text_start: int
    text_end: int
    padding_start: int
    cut_off: str = ""


@dataclass(frozen=True)
class Alignment:
    """How the target prompt's cross attention follows the source's: `shared * (A_source @ matrix)` plus
    `(1 - shared) * A_target`.

    kind: "replace" or "refine".
    matrix: (source tokens, target tokens) in float32, on the CPU.
    shared: (target tokens,) in float32: 1.0 where the column is the source's, 0.0 where the target keeps its own.
    """

    kind: AlignmentKind
    matrix: torch.Tensor
    shared: torch.Tensor


def tokenize_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> PromptTokens:
    """Tokenize as diffusers does, padded and truncated to `tokenizer.model_max_length`, and find the words.

    Args:
        tokenizer: A fast tokenizer tells the offsets itself. Without offsets (CLIPTokenizer before transformers 5) the
            texts of the tokens are matched against the prompt, which CLIP's byte-pair tokens allow.
        prompt: One prompt, with textual inversions already expanded (`maybe_convert_prompt`).

    Raises:
        RuntimeError: If other code used the tokenizer at the same time; calls of this function wait for each other.
    """
    prompt = unicodedata.normalize("NFC", prompt)
    with lock_of(tokenizer):
        encoded = tokenizer(
            prompt,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_attention_mask=True,
            return_offsets_mapping=tokenizer.is_fast,
        )
    ids = tuple(encoded["input_ids"])
    check_padded(tokenizer, len(ids))
    padding_start = sum(encoded["attention_mask"])
    text_start = int(ids[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id))
    text_end = padding_start - (tokenizer.num_special_tokens_to_add() - text_start)
    if tokenizer.is_fast:
        spans = encoded["offset_mapping"][text_start:text_end]
    else:
        spans = spans_by_text(tokenizer, ids[text_start:text_end], prompt)
    words = words_of(prompt, spans, text_start)
    is_full = padding_start == len(ids)  # otherwise whatever no token covers is only blanks to the tokenizer
    end = spans[-1][1] if is_full and spans else len(prompt)
    end = next((word.start for word in words if word.start < end < word.end), end)
    cut_off = prompt[end:].strip()
    return PromptTokens(prompt, ids, words, text_start, text_end, padding_start, cut_off)


def words_of(prompt: str, spans: Sequence[tuple[int, int]], first_token: int = 0) -> tuple[Word, ...]:
    """The words of a prompt, with the tokens that cover them.

    Args:
        prompt: In Unicode's composed form (NFC).
        spans: The characters of the prompt that each token covers, from `first_token` on.
        first_token: Index of the first of these tokens.
    """
    words = []
    for match in _WORD.finditer(prompt):
        start, end = match.span()
        covering = (
            index for index, (first, stop) in enumerate(spans, first_token) if first < end and stop > start
        )
        words.append(Word(match.group(), start, end, tuple(covering)))
    return tuple(words)


def check_padded(tokenizer: PreTrainedTokenizerBase, length: int) -> None:
    """Raise unless tokens were padded or truncated to the length that was asked for.

    A fast tokenizer stores how to pad and truncate in itself, where a call from another thread may change it halfway.

    Args:
        length: The number of tokens that the tokenizer returned.

    Raises:
        RuntimeError: If `length` is not `tokenizer.model_max_length`.
    """
    if length != tokenizer.model_max_length:
        raise RuntimeError(
            f"The tokenizer returned {length} tokens where {tokenizer.model_max_length} were asked for: another thread "
            "used it at the same moment. Run this again, and give the other thread a tokenizer of its own, "
            "`copy.deepcopy(pipe.tokenizer)`."
        )


def tokens_of(prompt_tokens: PromptTokens, word: str) -> tuple[int, ...]:
    """The tokens that a word, or a phrase of several words, covers in all its occurrences.

    Case and punctuation do not matter: "Dog," is "dog". If truncation cut into an occurrence, its remaining tokens
        count
    as long as each of its words has at least one.

    Args:
        prompt_tokens: The prompt.
        word: The word or phrase.

    Returns:
        Ascending indices into the padded ids.

    Raises:
        ValueError: If the prompt does not contain it, or only in the part that was cut off.
    """
    wanted = [_folded(part) for part in _WORD.findall(unicodedata.normalize("NFC", word))]
    if not wanted:
        raise ValueError(f"A word needs a letter or a digit, got {word!r}. Name {_listed(prompt_tokens)}.")
    words = prompt_tokens.words
    runs = [words[start : start + len(wanted)] for start in range(len(words) - len(wanted) + 1)]
    found = [run for run in runs if [_folded(each.text) for each in run] == wanted]
    if not found:
        raise ValueError(
            f"{word!r} is not in the prompt {prompt_tokens.prompt!r}. Name {_listed(prompt_tokens)}, or a phrase of "
            "consecutive words."
        )
    whole = [run for run in found if all(each.tokens for each in run)]
    if not whole:
        raise ValueError(
            f"{word!r} was cut off: the text encoder takes {len(prompt_tokens.ids)} tokens, and the prompt "
            f"{prompt_tokens.prompt!r} has more. Shorten the prompt, or move the word towards the beginning."
        )
    return tuple(sorted({token for run in whole for each in run for token in each.tokens}))


def token_factors(
    prompt_tokens: PromptTokens, factors: Mapping[str, float], default: float = 1.0
) -> torch.Tensor:
    """Spread one number per word over the tokens: weights to multiply by, or fractions of a schedule.

    Args:
        prompt_tokens: The prompt.
        factors: Numbers by word or phrase, as `tokens_of` takes them; if two cover the same token, the later one
            counts.
        default: For all other tokens, including start, end and padding.

    Returns:
        (tokens,) in float32, on the CPU.

    Raises:
        ValueError: If a number is not finite, or a word is not in the prompt.
    """
    for name, factor in {**factors, "`default`": default}.items():
        if not math.isfinite(factor):
            raise ValueError(
                f"The factor of {name} must be a finite number, got {factor}. Use 1 to leave a weight as it is, and 0 "
                "to silence a word."
            )
    result = torch.full((len(prompt_tokens.ids),), float(default))
    for word, factor in factors.items():
        result[list(tokens_of(prompt_tokens, word))] = float(factor)
    return result


def align(source: PromptTokens, target: PromptTokens, kind: AlignmentKind | None = None) -> Alignment:
    """Match the tokens of two prompts.

    Args:
        source, target: The prompts.
        kind: "replace" if words are replaced one for one (see `replacement_matrix`; `shared` is all ones), "refine" if
            words are added or removed (see `refinement_matrix`); `None` chooses "replace" if both prompts have equally
            many words, else "refine".

    Raises:
        ValueError: If `kind` is anything else, or if it is "replace" and the prompts' numbers of words differ.
    """
    if kind is None:
        kind = "replace" if len(source.words) == len(target.words) else "refine"
    if kind == "replace":
        return Alignment(kind, replacement_matrix(source, target), torch.ones(len(target.ids)))
    if kind == "refine":
        return Alignment(kind, *refinement_matrix(source, target))
    raise ValueError(
        f'`kind` must be "replace", "refine", or `None` to choose by the numbers of words, got {kind!r}.'
    )


def replacement_matrix(source: PromptTokens, target: PromptTokens) -> torch.Tensor:
    """The matrix M with `A_target = A_source @ M` for prompts whose words are replaced one for one.

    The k-th target word takes the k-th source word's attention, token by token if both have equally many tokens.
    Otherwise each of the m source tokens gives 1/n to each of the n target tokens, as published: rows sum to 1, so the
    word's total attention stays the same, and its columns sum to m/n. Punctuation between two words is treated the same
    way. A target token without a counterpart (m = 0: added punctuation, or a word that truncation removed from the
    source) has a column of zeros. For start, end and padding see `refinement_matrix`; their columns sum to 1.

    The published code splits words at spaces, so that punctuation belongs to its word. It also leaves what follows the
    last replaced word unshifted, so that after a word that became longer the others take their neighbours' attention.
    This function does neither.

    Returns:
        (source tokens, target tokens) in float32, on the CPU.

    Raises:
        ValueError: If the prompts' numbers of words differ.
    """
    if len(source.words) != len(target.words):
        raise ValueError(
            f"Replacing needs prompts with equally many words, got {len(source.words)} in {source.prompt!r} and "
            f'{len(target.words)} in {target.prompt!r}. Use "refine" where words are added or removed.'
        )
    matrix = _framed_matrix(source, target)
    for ours, theirs in zip(_pieces(source), _pieces(target), strict=True):
        if len(ours) == len(theirs):
            matrix[list(ours), list(theirs)] = 1.0
        elif theirs:
            matrix[ours.start : ours.stop, theirs.start : theirs.stop] = 1 / len(theirs)
    return matrix


def refinement_matrix(source: PromptTokens, target: PromptTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix and mask for prompts with words added or removed: shared tokens take the source's columns.

    The ids of both texts are aligned globally (Needleman-Wunsch with gap 0, match 1 and mismatch -1, as published; of
    equally good alignments, the one that matches early tokens of the target). Start and end tokens map to start and end
    tokens. Padding maps to the source's padding at the same position, or to the first padding of the source if it has
    none there (in the published code, to whatever token is there). If the source has no padding at all, the target's is
    new.

    Returns:
        The matrix, (source tokens, target tokens), whose columns have a single 1 or, for new tokens, are all zero; and
        the mask, (target tokens,): 1.0 where the token is taken from the source, 0.0 where it is new. Both in float32,
        on the CPU.
    """
    matrix = _framed_matrix(source, target)
    texts = [side.ids[side.text_start : side.text_end] for side in (source, target)]
    for source_index, target_index in _matched(*texts):
        matrix[source.text_start + source_index, target.text_start + target_index] = 1.0
    return matrix, matrix.sum(dim=0)


def changed_tokens(source: PromptTokens, target: PromptTokens) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each of two prompts, its text tokens that the other lacks, by the alignment of `refinement_matrix`."""
    matrix, shared = refinement_matrix(source, target)
    kept = (matrix.sum(dim=1), shared)
    return tuple(  # type: ignore[return-value]
        tuple(index for index in range(side.text_start, side.text_end) if not of_side[index])
        for side, of_side in zip((source, target), kept, strict=True)
    )


def _framed_matrix(source: PromptTokens, target: PromptTokens) -> torch.Tensor:
    """The matrix with the columns of start, end and padding filled in; those of the text are still zero."""
    matrix = torch.zeros(len(source.ids), len(target.ids))
    for index in range(min(source.text_start, target.text_start)):
        matrix[index, index] = 1.0
    ends = range(source.text_end, source.padding_start), range(target.text_end, target.padding_start)
    for source_index, target_index in zip(*ends, strict=False):
        matrix[source_index, target_index] = 1.0
    if source.padding_start < len(source.ids):
        padding = torch.arange(target.padding_start, len(target.ids))
        matrix[padding.clamp(source.padding_start, len(source.ids) - 1), padding] = 1.0
    return matrix


def _pieces(prompt_tokens: PromptTokens) -> Iterator[range]:
    """The text's tokens in order: punctuation, word, punctuation, word, …, punctuation; any piece may be empty."""
    end = prompt_tokens.text_end
    position = prompt_tokens.text_start
    for word in prompt_tokens.words:
        start = max(position, word.tokens[0]) if word.tokens else end
        yield range(position, start)
        position = max(start, word.tokens[-1] + 1) if word.tokens else end
        yield range(start, position)
    yield range(position, end)


def _matched(source: Sequence[int], target: Sequence[int]) -> list[tuple[int, int]]:
    """Index pairs of equal ids in an optimal global alignment; as gaps are free, a mismatch never pays."""
    scores = [[0] * (len(target) + 1) for _ in range(len(source) + 1)]
    for i, source_id in enumerate(source):
        for j, target_id in enumerate(target):
            matched = scores[i][j] + (1 if source_id == target_id else -1)
            scores[i + 1][j + 1] = max(scores[i + 1][j], scores[i][j + 1], matched)
    pairs = []
    i, j = len(source), len(target)
    while i and j:
        if scores[i][j] == scores[i][j - 1]:
            j -= 1
        elif scores[i][j] == scores[i - 1][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def spans_by_text(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], prompt: str
) -> list[tuple[int, int]]:
    """The characters that each token covers, found by following the tokens along the lower-cased prompt.

    A token whose text is not found, such as an unknown one, covers everything before the next token that is found.
    """
    text = "".join(prompt.split()).lower().encode()
    owners = [index for index, each in enumerate(prompt) if not each.isspace() for _ in each.lower().encode()]
    spans: list[tuple[int, int]] = []
    position = unplaced = 0
    for token in tokenizer.convert_ids_to_tokens(list(ids)):
        piece = b"".join(_token_bytes(tokenizer, token).split())  # byte-level tokens begin with their blank
        found = text.find(piece, position) if unplaced else position
        if not piece or found < 0 or not text.startswith(piece, found):
            unplaced += 1
            continue
        spans += [(owners[position], owners[found])] * unplaced
        position, unplaced = found + len(piece), 0
        spans.append((owners[found], owners[position - 1] + 1))
    start = [*owners, len(prompt)][position]
    return spans + [(start, start + len(re.split(r"\s", prompt[start:])[0]))] * unplaced


def _token_bytes(tokenizer: PreTrainedTokenizerBase, token: str) -> bytes:
    """The text of a token as bytes; CLIP's slow tokenizer writes each byte as a character of a special alphabet."""
    token = token.removesuffix("</w>")
    alphabet: Mapping[str, int] = getattr(tokenizer, "byte_decoder", {})
    if alphabet and all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token).lower()
    return token.lower().encode()


def _folded(word: str) -> str:
    return word.casefold().replace("\u2019", "'")


def _listed(prompt_tokens: PromptTokens) -> str:
    """The prompt's words for an error message."""
    if not prompt_tokens.words:
        return "a word of the prompt, which has none"
    return "one of its words: " + ", ".join(dict.fromkeys(word.text for word in prompt_tokens.words))
