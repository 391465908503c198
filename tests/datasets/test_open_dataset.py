from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from semantic_edit.datasets import LAYOUTS, open_dataset
from semantic_edit.still_life.cases import edit_cases


@pytest.fixture
def tables(tmp_path, paint, write_lines):
    """A folder in each layout, with one edit each."""
    row = {"image": "x.png", "source_prompt": "a cat", "prompt": "a dog"}
    paint(tmp_path / "folder" / "x.png")
    write_lines(tmp_path / "folder" / "prompts.jsonl", row)
    paint(tmp_path / "pie-bench" / "annotation_images" / "x.png")
    entry = {
        "image_path": "x.png",
        "original_prompt": "a cat",
        "editing_prompt": "a dog",
        "editing_type_id": "1",
        "mask": [],
    }
    (tmp_path / "pie-bench" / "mapping_file.json").write_text(json.dumps({"x": entry}))
    paint(tmp_path / "imagenet" / "cat" / "x.png")
    write_lines(tmp_path / "imagenet" / "class_pairs.jsonl", {"source": "cat", "target": "dog"})
    paint(tmp_path / "coco" / "x.png")
    (tmp_path / "coco" / "captions_val2014.json").write_text('{"images": [], "annotations": []}')
    write_lines(
        tmp_path / "coco" / "caption_pairs.jsonl",
        {"file_name": "x.png", "caption": "a cat", "edited_caption": "a dog"},
    )
    return tmp_path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_told_by_what_lies_in_the_folder(tables, layout):
    (item,) = open_dataset(tables / layout)
    assert item.prompt.endswith("a dog")
    assert item.image.size == (8, 6)
    (same,) = open_dataset(str(tables / layout), layout)
    assert same.name == item.name


def test_a_folder_that_looks_like_two_layouts_needs_a_word(tables, paint, write_lines):
    paint(tables / "folder" / "cat" / "x.png")
    write_lines(tables / "folder" / "class_pairs.jsonl", {"source": "cat", "target": "dog"})
    with pytest.raises(
        ValueError, match=r"looks like each of folder, imagenet: say by `layout` which one it is"
    ):
        open_dataset(tables / "folder")
    assert open_dataset(tables / "folder", "imagenet")[0].prompt == "a photo of a dog"


def test_a_folder_that_looks_like_none_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        ValueError, match=r"looks like no dataset. Looked for:\n  folder: one of prompts.jsonl"
    ) as raised:
        open_dataset(tmp_path)
    assert all(f"\n  {layout}: " in str(raised.value) for layout in LAYOUTS)


def test_what_is_neither_name_nor_folder_is_refused(tables):
    with pytest.raises(ValueError, match=r"'nowhere' is neither 'still-life' nor a folder"):
        open_dataset("nowhere")
    with pytest.raises(ValueError, match=r"prompts.jsonl' is a file: name the folder that it lies in"):
        open_dataset(tables / "folder" / "prompts.jsonl")
    with pytest.raises(
        ValueError, match=r"`layout` must be one of folder, pie-bench, imagenet, coco, or None, got 'x'"
    ):
        open_dataset(tables / "folder", "x")


def test_options_and_modes_reach_the_reader(tables, write_lines):
    (item,) = open_dataset(tables / "imagenet", template="one {name}", source_template="")
    assert (item.source_prompt, item.prompt) == ("", "one dog")
    with pytest.raises(TypeError, match="template"):
        open_dataset(tables / "folder", template="one {name}")
    write_lines(tables / "imagenet" / "class_pairs.jsonl", {"source": "cat", "target": "dog"}, {})
    reported = []
    assert len(open_dataset(tables / "imagenet", on_bad="skip", report=reported.append)) == 1
    assert len(reported) == 1


def test_still_lifes_bring_their_ground_truth():
    items = open_dataset("still-life", count=3, seed=5, kinds=("colour", "surface"), split="validation")
    cases = edit_cases(3, 5, ("colour", "surface"), split="validation")
    assert [one.name for one in items] == [
        "validation-5-00000-colour",
        "validation-5-00001-surface",
        "validation-5-00002-colour",
    ]
    for item, case in zip(items, cases, strict=True):
        assert (item.source_prompt, item.prompt, item.kind) == (case.source_prompt, case.prompt, case.kind)
        assert item.case is not None
        assert item.case.target_word == case.target_word
        np.testing.assert_array_equal(item.image, case.image)
        np.testing.assert_array_equal(item.mask, case.changed_mask)


def test_still_lifes_of_one_picture_share_their_group():
    colour, surface = (open_dataset("still-life", count=2, kinds=(kind,)) for kind in ("colour", "surface"))
    assert [one.group for one in colour] == [one.group for one in surface]
    assert len({one.name for one in [*colour, *surface]}) == 4
    np.testing.assert_array_equal(colour[1].image, surface[1].image)


def test_what_is_done_to_a_still_life_stays_with_who_did_it():
    (item,) = open_dataset("still-life", count=1)
    item.image.paste("white", (0, 0, 128, 128))
    item.mask[:] = True
    assert item.image.getextrema() != ((255, 255),) * 3
    assert not item.mask.all()
    assert pickle.loads(pickle.dumps(item)).name == item.name


def test_still_lifes_refuse_what_they_cannot_draw():
    with pytest.raises(
        ValueError, match=r"`kinds` must name some of colour, object, surface, got \('style',\)"
    ):
        open_dataset("still-life", kinds=("style",))
