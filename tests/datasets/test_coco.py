from __future__ import annotations

import json

import pytest

from semantic_edit.datasets.coco import coco_items

FILES = {number: f"COCO_val2014_{number:012d}.jpg" for number in (1, 2, 3)}
CAPTIONS = {
    "info": {"year": 2014},
    "images": [{"id": number, "file_name": name, "width": 8, "height": 6} for number, name in FILES.items()],
    "annotations": [
        {"id": 12, "image_id": 1, "caption": "Two cats on a sofa.\n"},
        {"id": 11, "image_id": 1, "caption": "A cat on a sofa."},
        {"id": 21, "image_id": 2, "caption": "A dog on a sofa."},
    ],
}
ROW = {"image_id": 1, "caption": "a cat", "edited_caption": "a dog"}
BISON = {
    "bison_id": 7,
    "caption_id": 21,
    "true_image_id": 2,
    "image_candidates": [
        {"image_id": 1, "image_filename": FILES[1]},
        {"image_id": 2, "image_filename": FILES[2]},
    ],
}


@pytest.fixture
def coco(tmp_path, paint):
    """Pictures in val2014/ and captions in annotations/, as COCO's archives unpack."""
    for name in FILES.values():
        paint(tmp_path / "val2014" / name)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_val2014.json").write_text(json.dumps(CAPTIONS))
    return tmp_path


def write_bison(folder, *entries):
    content = {"info": {"source": "coco", "split": "val2014"}, "data": entries}
    (folder / "annotations" / "bison_annotations.cocoval2014.json").write_text(json.dumps(content))


def test_pairs_find_their_picture_by_id_or_by_name(coco, write_lines):
    row = {"file_name": FILES[2], "caption": "", "edited_caption": "a fox"}
    write_lines(coco / "caption_pairs.jsonl", ROW, {**ROW, "edited_caption": "a mouse"}, row)
    items = coco_items(coco)
    assert [(one.source_prompt, one.prompt) for one in items] == [
        ("a cat", "a dog"),
        ("a cat", "a mouse"),
        ("", "a fox"),
    ]
    assert [one.group for one in items] == [FILES[1], FILES[1], FILES[2]]
    assert len({one.name for one in items}) == 3
    assert items[0].name.startswith("COCO_val2014_000000000001-")
    assert items[0].image.size == (8, 6)


def test_the_same_pairs_in_any_format_are_the_same_items(coco, write_lines):
    table = write_lines(coco / "caption_pairs.jsonl", ROW)
    (one,) = coco_items(coco)
    table.unlink()
    table = coco / "annotations" / "caption_pairs.json"
    table.write_text(json.dumps([ROW]))
    (other,) = coco_items(coco)
    table.unlink()
    (coco / "caption_pairs.csv").write_text("image_id,caption,edited_caption\n 1,a cat,a dog\n")
    (third,) = coco_items(coco)
    assert one.name == other.name == third.name


@pytest.mark.parametrize("place", ["", "images", "images/val2014", "val2014"])
def test_pictures_are_looked_for_where_they_usually_are(coco, write_lines, place):
    (coco / "val2014").rename(coco / "moved")
    (coco / place).mkdir(parents=True, exist_ok=True)
    for path in (coco / "moved").iterdir():
        path.rename(coco / place / path.name)
    write_lines(coco / "caption_pairs.jsonl", ROW)
    assert coco_items(coco)[0].image.size == (8, 6)


def test_pictures_are_where_the_caller_says(coco, write_lines):
    (coco / "val2014").rename(coco / "moved")
    write_lines(coco / "caption_pairs.jsonl", ROW)
    assert coco_items(coco, images="moved")[0].image.size == (8, 6)
    with pytest.raises(ValueError, match=r"`images` must name a folder in '.*', got 'none'"):
        coco_items(coco, images="none")


def test_pairs_by_name_need_no_captions(coco, write_lines):
    (coco / "annotations" / "captions_val2014.json").unlink()
    (coco / "val2014").rename(coco / "images")
    write_lines(coco / "caption_pairs.jsonl", {**ROW, "file_name": FILES[1]}, ROW)
    with pytest.raises(
        ValueError, match=r"1 in all:\n  line 2: without `file_name`, an `image_id` needs captions_"
    ):
        coco_items(coco)


def test_bison_edits_the_other_picture_to_match_the_caption(coco):
    write_bison(coco, BISON, {**BISON, "bison_id": 8, "caption_id": 12, "true_image_id": 1})
    one, other = coco_items(coco)
    assert one.name == "bison-00007"
    assert (one.group, one.source_prompt, one.prompt) == (FILES[1], "A cat on a sofa.", "A dog on a sofa.")
    assert (other.group, other.source_prompt, other.prompt) == (
        FILES[2],
        "A dog on a sofa.",
        "Two cats on a sofa.",
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"caption_id": 99}, "entry 1 of `data`: 'captions_val2014.json' has no caption 99"),
        ({"caption_id": "x"}, "entry 1 of `data`: `caption_id` must be a whole number, got 'x'"),
        ({"bison_id": None}, "entry 1 of `data`: `bison_id` is missing"),
        ({"true_image_id": 3}, r"`image_candidates` must be 3, the true image, and one other, got \[1, 2\]"),
        ({"image_candidates": [{"image_id": 2}]}, r"must be 2, the true image, and one other, got \[2\]"),
        ({"image_candidates": 5}, "`image_candidates` must be a list of two objects"),
        (
            {"image_candidates": [{"image_id": 2}, {"image_id": 9}]},
            "'captions_val2014.json' has no picture 9",
        ),
        ({"image_candidates": [{"image_id": 2}, {"image_id": 3}]}, "has no caption of picture 3"),
    ],
)
def test_a_bad_entry_of_bison_fails_or_is_skipped(coco, change, reason):
    write_bison(coco, {**BISON, **change}, {**BISON, "bison_id": 8})
    with pytest.raises(ValueError, match=reason):
        coco_items(coco)
    reported = []
    assert [one.name for one in coco_items(coco, "skip", reported.append)] == ["bison-00008"]
    assert len(reported) == 1


def test_bison_needs_captions_and_its_own_layout(coco):
    write_bison(coco, BISON)
    (coco / "annotations" / "captions_val2014.json").rename(coco / "elsewhere.json")
    with pytest.raises(
        ValueError, match=r"gives captions by their ids: put COCO's captions_val2014.json beside it"
    ):
        coco_items(coco)
    assert len(coco_items(coco, captions="elsewhere.json", images="val2014")) == 1
    (coco / "bison_annotations.json").write_text("[]")
    with pytest.raises(ValueError, match=r"must hold an object with a list under `data`"):
        coco_items(coco, captions="elsewhere.json", pairs="bison_annotations.json")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**ROW, "image_id": 9}, "line 1: 'captions_val2014.json' has no picture 9"),
        ({**ROW, "image_id": "9" * 5000}, "line 1: `image_id` must be a whole number, got '999"),
        ({**ROW, "image_id": True}, "line 1: `image_id` must be a whole number, got True"),
        ({"caption": "a cat", "edited_caption": "a dog"}, "line 1: `image_id` is missing"),
        ({"image_id": 1, "edited_caption": "a dog"}, "line 1: `caption` is missing"),
        ({**ROW, "edited_caption": ""}, "line 1: `edited_caption` is empty"),
        ({**ROW, "file_name": "none.jpg"}, "line 1: there is no file 'none.jpg' in '.*' or '.*images' or"),
        ({**ROW, "file_name": "../x.jpg"}, "line 1: '../x.jpg' must lie in the dataset's folder"),
        (
            {**ROW, "file_name": "annotations/captions_val2014.json"},
            "line 1: .* is not a picture in a format",
        ),
    ],
)
def test_a_bad_pair_fails_or_is_skipped(coco, write_lines, row, reason):
    write_lines(coco / "caption_pairs.jsonl", row, ROW)
    with pytest.raises(ValueError, match=reason):
        coco_items(coco)
    reported = []
    assert len(coco_items(coco, "skip", reported.append)) == 1
    assert [one.where for one in reported] == ["line 1"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": None}, "COCO's captions; the whole: `images` must be a list"),
        ({"images": [{"id": 1}]}, "COCO's captions; entry 1 of `images`: `file_name` is missing"),
        (
            {"annotations": [5]},
            "COCO's captions; entry 1 of `annotations`: must be an object with keys, got 5",
        ),
    ],
)
def test_captions_in_another_layout_are_refused_in_either_mode(coco, write_lines, change, reason):
    write_lines(coco / "caption_pairs.jsonl", ROW)
    (coco / "annotations" / "captions_val2014.json").write_text(json.dumps({**CAPTIONS, **change}))
    with pytest.raises(ValueError, match=reason):
        coco_items(coco, "skip")


def test_of_several_tables_the_caller_says_which(coco, write_lines):
    write_lines(coco / "caption_pairs.jsonl", ROW)
    write_bison(coco, BISON)
    with pytest.raises(ValueError, match=r"Which of .*caption_pairs.jsonl', .* counts\? Say so by `pairs`"):
        coco_items(coco)
    assert coco_items(coco, pairs="caption_pairs.jsonl")[0].source_prompt == "a cat"
