from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image, ImageFile

from semantic_edit.datasets.folder import folder_items

CAT = {"image": "cat.png", "source_prompt": "a cat", "prompt": "a dog"}


def test_json_lines_give_an_item_for_each_prompt_in_order(tmp_path, paint, write_lines):
    paint(tmp_path / "cat.png")
    paint(tmp_path / "in" / "mug.png", size=(4, 4), colour="blue")
    paint(tmp_path / "masks" / "mug.png", size=(4, 4), colour=255, mode="L")
    write_lines(
        tmp_path / "prompts.jsonl",
        {**CAT, "prompt": ["a dog", "a fox"], "kind": "object"},
        {"file_name": "in/mug.png", "source_prompt": "", "prompt": "a red mug", "mask": "masks/mug.png"},
    )
    items = folder_items(tmp_path)
    assert [one.prompt for one in items] == ["a dog", "a fox", "a red mug"]
    assert [one.source_prompt for one in items] == ["a cat", "a cat", ""]
    assert [one.kind for one in items] == ["object", "object", ""]
    assert [one.group for one in items] == ["cat.png", "cat.png", "in/mug.png"]
    assert len({one.name for one in items}) == 3
    assert items[0].name.startswith("cat-")
    assert items[0].image.getpixel((0, 0)) == (255, 0, 0)
    assert items[2].image.size == (4, 4)
    assert items[0].mask is None
    np.testing.assert_array_equal(items[2].mask, np.ones((4, 4), dtype=bool))


@pytest.mark.parametrize("name", ["prompts.csv", "metadata.csv"])
def test_csv_gives_the_same_items_as_json_lines(tmp_path, paint, write_lines, name):
    for folder in ("csv", "jsonl"):
        paint(tmp_path / folder / "cat.png")
    (tmp_path / "csv" / name).write_text(
        '\ufefffile_name,source_prompt,prompt,kind,mask\ncat.png,"a cat, asleep",a dog,object,\n',
        encoding="utf-8",
    )
    row = {"file_name": "cat.png", "source_prompt": "a cat, asleep", "prompt": "a dog", "kind": "object"}
    write_lines(tmp_path / "jsonl" / "metadata.jsonl", row)
    (one,), (other,) = folder_items(tmp_path / "csv"), folder_items(tmp_path / "jsonl")
    assert (one.name, one.source_prompt, one.prompt, one.kind) == (
        other.name,
        other.source_prompt,
        other.prompt,
        other.kind,
    )
    assert one.mask is None


def test_names_stay_where_rows_move_and_change_with_what_they_ask_for(tmp_path, paint, write_lines):
    paint(tmp_path / "cat.png")
    table = tmp_path / "prompts.jsonl"
    fox = {**CAT, "prompt": "a fox"}
    write_lines(table, CAT, fox)
    names = [one.name for one in folder_items(tmp_path)]
    write_lines(table, fox, CAT)
    assert [one.name for one in folder_items(tmp_path)] == names[::-1]
    write_lines(table, {**CAT, "prompt": "a red dog"})
    assert folder_items(tmp_path)[0].name not in names


BAD = [
    ("{", "line 1: malformed JSON at column 2"),
    ({**CAT, "image": "none.png"}, "line 1: there is no file 'none.png' in"),
    ({**CAT, "image": "../cat.png"}, "line 1: '../cat.png' must lie in the dataset's folder"),
    ({**CAT, "image": "/cat.png"}, "line 1: '/cat.png' must lie in the dataset's folder"),
    ({**CAT, "mask": "../cat.png"}, "line 1: '../cat.png' must lie in the dataset's folder"),
    ({**CAT, "image": "notes.txt"}, "notes.txt' is not a picture in a format that Pillow reads"),
    ({"image": "cat.png", "prompt": "a dog"}, "line 1: `source_prompt` is missing; there is image, prompt"),
    ({"source_prompt": "", "prompt": "a dog"}, "line 1: `image` or `file_name` is missing"),
    ({**CAT, "prompt": None}, "line 1: `prompt` is missing"),
    ({**CAT, "prompt": []}, "line 1: `prompt` is an empty list"),
    ({**CAT, "prompt": ["a dog", " "]}, "line 1: `prompt` is empty"),
    ({**CAT, "prompt": 3}, "line 1: `prompt` must be text, got 3"),
    (
        {**CAT, "prompt": ["a dog", "a dog"]},
        "line 1: the same edit of the same picture, 'cat-[0-9a-f]{8}', as in",
    ),
    ({**CAT, "kind": 3}, "line 1: `kind` must be text, got 3"),
    (
        {**CAT, "mask": "large.png"},
        r"the mask 'large.png' is 9 x 9 pixels \(width x height\), the picture 8 x 6",
    ),
]


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_a_bad_row_fails_or_is_skipped(tmp_path, paint, row, reason):
    paint(tmp_path / "cat.png")
    paint(tmp_path / "data" / "cat.png")
    paint(tmp_path / "data" / "large.png", size=(9, 9))
    (tmp_path / "data" / "notes.txt").write_text("no picture")
    line = row if isinstance(row, str) else json.dumps(row)
    fox = json.dumps({**CAT, "prompt": "a fox"})
    (tmp_path / "data" / "prompts.jsonl").write_text(f"{line}\n{fox}\n")
    with pytest.raises(ValueError, match=reason):
        folder_items(tmp_path / "data")
    reported = []
    (left,) = folder_items(tmp_path / "data", "skip", reported.append)
    assert left.prompt == "a fox"
    assert [one.where for one in reported] == ["line 1"]


def test_all_bad_rows_are_in_one_error(tmp_path, paint, write_lines):
    paint(tmp_path / "cat.png")
    write_lines(tmp_path / "prompts.jsonl", {**CAT, "image": "none.png"}, CAT, CAT, {**CAT, "prompt": 5})
    with pytest.raises(
        ValueError, match=r"(?s)3 in all:.*line 1: there is no file.*line 3: the same edit.*line 4: "
    ):
        folder_items(tmp_path)


def test_two_tables_are_one_too_many(tmp_path, write_lines):
    for name in ("prompts.jsonl", "metadata.csv"):
        write_lines(tmp_path / name)
    with pytest.raises(ValueError, match=r"Which of .*csv', .*jsonl' counts\? Remove all but one"):
        folder_items(tmp_path)


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, paint, write_lines, monkeypatch):
    paint(tmp_path / "cat.png")
    paint(tmp_path / "mask.png", colour=255, mode="L")
    write_lines(tmp_path / "prompts.jsonl", {**CAT, "mask": "mask.png"})

    def decode(picture: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", decode)
        (item,) = folder_items(tmp_path)
        with pytest.raises(AssertionError, match="decoded"):
            _ = item.image
    assert isinstance(item.image, Image.Image)
    assert item.mask is not None


def test_items_survive_pickling_for_other_processes(tmp_path, paint, write_lines):
    paint(tmp_path / "cat.png")
    write_lines(tmp_path / "prompts.jsonl", CAT)
    (item,) = pickle.loads(pickle.dumps(folder_items(tmp_path)))
    assert item.image.size == (8, 6)
