"""Rows with endlessly nested values, or with half of a character, are reported as bad rows."""

from __future__ import annotations

import contextlib
import json

import pytest

from semantic_edit.datasets.coco import coco_items
from semantic_edit.datasets.folder import folder_items
from semantic_edit.datasets.imagenet import imagenet_items
from semantic_edit.datasets.pie_bench import pie_bench_items

MARK = "the deep value"
ROWS = {
    "folder": {
        "image": "cat.png",
        "source_prompt": "a cat",
        "prompt": "a dog",
        "kind": "object",
        "mask": "cat.png",
    },
    "pie-bench": {
        "image_path": "cat.png",
        "original_prompt": "a cat",
        "editing_prompt": "a dog",
        "editing_type_id": "0",
        "mask": [9, 2],
    },
    "imagenet": {"source": "cat", "target": "dog", "source_words": "cat", "target_words": "dog"},
    "coco": {"image_id": 1, "file_name": "cat.png", "caption": "a cat", "edited_caption": "a dog"},
}


@pytest.fixture
def write(tmp_path, paint):
    """Writes a table of one layout with one row, given as JSON, and reads it."""

    def folder(row):
        paint(tmp_path / "cat.png")
        (tmp_path / "prompts.jsonl").write_text(row)
        return folder_items(tmp_path)

    def pie_bench(row):
        paint(tmp_path / "annotation_images" / "cat.png")
        (tmp_path / "mapping_file.json").write_text(f'{{"a": {row}}}')
        return pie_bench_items(tmp_path)

    def imagenet(row):
        paint(tmp_path / "cat" / "0.png")
        (tmp_path / "class_pairs.jsonl").write_text(row)
        return imagenet_items(tmp_path)

    def coco(row):
        paint(tmp_path / "val2014" / "cat.png")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        captions = {"images": [{"id": 1, "file_name": "cat.png"}], "annotations": []}
        (tmp_path / "annotations" / "captions_val2014.json").write_text(json.dumps(captions))
        (tmp_path / "caption_pairs.jsonl").write_text(row)
        return coco_items(tmp_path)

    return {"folder": folder, "pie-bench": pie_bench, "imagenet": imagenet, "coco": coco}


def deepest():
    """How deeply nested the lists may be that Python can read here."""
    depth = 1
    with contextlib.suppress(RecursionError):
        while json.loads("[" * depth + "1" + "]" * depth):
            depth += 1
    return depth


CASES = [(layout, key) for layout, row in ROWS.items() for key in row]


@pytest.mark.parametrize(("layout", "key"), CASES)
def test_a_deep_value(write, layout, key):
    write[layout](json.dumps(ROWS[layout]))
    row = json.dumps({**ROWS[layout], key: MARK})
    middle = deepest()
    for depth in (
        *range(middle - 20, middle + 5),
        100_000,
    ):  # what can just be read may be too deep to be shown
        for opening, closing in (("[", "]"), ('{"a": ', "}")):
            deep = row.replace(f'"{MARK}"', opening * depth + "1" + closing * depth)
            with contextlib.suppress(ValueError):  # where the key is not looked at, the row may be good
                write[layout](deep)


@pytest.mark.parametrize(
    ("layout", "key"), [case for case in CASES if "id" not in case[1] and case[1] != "mask"]
)
def test_half_of_a_surrogate_pair(write, layout, key):
    row = json.dumps({**ROWS[layout], key: MARK})
    if layout == "coco" and key == "file_name":
        row = row.replace('"image_id": 1, ', "")
    with pytest.raises(ValueError, match=rf"`{key}` holds half of a surrogate pair.* 'a \\ud800'"):
        write[layout](row.replace(MARK, "a \\ud800"))
