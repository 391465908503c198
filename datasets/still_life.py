"""Still lifes, whose edits come with their right answer."""

from __future__ import annotations

from functools import partial

from PIL import Image

from semantic_edit.datasets.items import EditItem
from semantic_edit.still_life.cases import EDIT_KINDS, EditCase, edit_cases


def still_life_items(
    count: int = 64,
    seed: int = 1,
    kinds: tuple[str, ...] = EDIT_KINDS,
    split: str = "test",
) -> list[EditItem]:
    """The edits that `edit_cases` draws, rendered immediately.

    Edits with the same split, seed and number are edits of one picture, whatever their kind, and share a group: to edit
    each picture in every kind, concatenate the items of single kinds. The examples of a target word are the perfect
    edits that lead to it.

    Args:
        count: Number of edits; `kinds` take turns.
        seed: A non-negative integer below a million.
        kinds: Some of "colour", "object", "surface".
        split: "test", "validation" or "train".

    Raises:
        ValueError: For a kind or split that does not exist, or a count or seed out of range.
    """
    cases = edit_cases(count, seed, tuple(kinds), split=split)
    perfect: dict[str, list[Image.Image]] = {}
    for case in cases:
        perfect.setdefault(_class_of(case), []).append(case.target_image)
    return [_item(case, f"{split}-{seed}-{number:05d}", perfect) for number, case in enumerate(cases)]


def _class_of(case: EditCase) -> str:
    return f"{case.kind} {case.target_word}"


def _item(case: EditCase, group: str, perfect: dict[str, list[Image.Image]]) -> EditItem:
    return EditItem(
        name=f"{group}-{case.kind}",
        source_prompt=case.source_prompt,
        prompt=case.prompt,
        group=group,
        load_image=case.image.copy,
        kind=case.kind,
        load_mask=case.changed_mask.copy,
        case=case,
        target_class=_class_of(case),
        load_examples=partial(iter, perfect[_class_of(case)]),
    )
