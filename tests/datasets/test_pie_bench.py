from __future__ import annotations

import json

import numpy as np
import pytest

from semantic_edit.datasets.pie_bench import KINDS, decoded_mask, pie_bench_items

ENTRY = {
    "image_path": "0_random_140/000000000000.jpg",
    "original_prompt": "a [slanted] mountain bicycle on the road",
    "editing_prompt": "a [rusty] mountain bicycle on the road []",
    "editing_instruction": "Make the frame of the bike rusty",
    "editing_type_id": "0",
    "blended_word": "bicycle bicycle",
    "mask": [9, 2, 17, 1],
}


@pytest.fixture
def write(tmp_path, paint):
    """Write a mapping file with these entries, and one image of 8 x 6 pixels."""
    paint(tmp_path / "annotation_images" / ENTRY["image_path"])

    def write_mapping(**entries):
        (tmp_path / "mapping_file.json").write_text(json.dumps(entries))
        return tmp_path

    return write_mapping


def published_mask(encoded, height, width):
    """The published evaluation, as described, pixel by pixel."""
    flat = np.zeros(height * width)
    for first, length in zip(encoded[::2], encoded[1::2], strict=True):
        for pixel in range(first, min(first + length, height * width)):
            flat[pixel] = 1
    mask = flat.reshape(height, width)
    for row in range(height):
        for column in range(width):
            if row in (0, height - 1) or column in (0, width - 1):
                mask[row, column] = 1
    return mask == 1


def test_an_entry_becomes_an_item(write):
    (item,) = pie_bench_items(write(**{"000000000000": ENTRY}))
    assert item.name == "000000000000"
    assert item.source_prompt == "a slanted mountain bicycle on the road"
    assert item.prompt == "a rusty mountain bicycle on the road"
    assert item.kind == "random"
    assert item.group == ENTRY["image_path"]
    assert item.image.size == (8, 6)


def test_a_mask_of_runs_and_its_border(write):
    (item,) = pie_bench_items(write(a=ENTRY))
    wanted = np.array(
        [
            [1, 1, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 0, 0, 0, 0, 1],  # 9 and 10: the run of two
            [1, 1, 0, 0, 0, 0, 0, 1],  # 17
            [1, 0, 0, 0, 0, 0, 0, 1],
            [1, 0, 0, 0, 0, 0, 0, 1],
            [1, 1, 1, 1, 1, 1, 1, 1],
        ],
        dtype=bool,
    )
    np.testing.assert_array_equal(item.mask, wanted)
    assert item.mask.dtype == bool
    # what a found mask is compared with has no border
    assert np.flatnonzero(item.region).tolist() == [9, 10, 17]


@pytest.mark.parametrize("runs", [(), (0, 48), (12, 20), (40, 100), (9, 0), (9, 5, 11, 9), (47, 1)])
def test_masks_are_those_of_the_published_decoder(runs):
    np.testing.assert_array_equal(decoded_mask(runs, (8, 6)), published_mask(runs, 6, 8))


def test_order_is_the_mappings_and_kinds_are_told_by_number(write):
    entries = {f"{10 - number}": {**ENTRY, "editing_type_id": str(number)} for number in range(10)}
    items = pie_bench_items(write(**entries, eleven={**ENTRY, "editing_type_id": 9}))
    assert [one.name for one in items] == [*map(str, range(10, 0, -1)), "eleven"]
    assert tuple(one.kind for one in items[:-1]) == KINDS
    assert items[-1].kind == "change style"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_path": "none.jpg"}, "entry 'a': there is no file 'none.jpg' in '.*annotation_images'"),
        (
            {"image_path": "../mapping_file.json"},
            "entry 'a': '../mapping_file.json' must lie in the dataset's folder",
        ),
        ({"original_prompt": None}, "entry 'a': `original_prompt` is missing"),
        ({"editing_prompt": "[]"}, r"entry 'a': '\[\]' has no words"),
        ({"editing_type_id": "10"}, "entry 'a': `editing_type_id` must be one of 0 to 9, got '10'"),
        ({"mask": None}, "entry 'a': `mask` is missing"),
        ({"mask": "9 2"}, "entry 'a': `mask` must be a list of whole numbers from 0 up"),
        ({"mask": [9, -2]}, "entry 'a': `mask` must be a list of whole numbers from 0 up"),
        ({"mask": [9, 2.0]}, "entry 'a': `mask` must be a list of whole numbers from 0 up"),
        ({"mask": [9, 2, 17]}, "entry 'a': `mask` must be pairs of first pixel and length, got 3 numbers"),
        (
            {"mask": [48, 2]},
            "`mask` has a run from pixel 48, but the picture has only 8 x 6 = 48: was it resized",
        ),
    ],
)
def test_a_bad_entry_fails_or_is_skipped(write, change, reason):
    folder = write(a={**ENTRY, **change}, b=ENTRY)
    with pytest.raises(ValueError, match=reason):
        pie_bench_items(folder)
    reported = []
    assert [one.name for one in pie_bench_items(folder, "skip", reported.append)] == ["b"]
    assert [one.where for one in reported] == ["entry 'a'"]


def test_a_mapping_must_be_an_object_of_objects(tmp_path, write):
    with pytest.raises(ValueError, match=r"entry 'a': must be an object with keys, got 5"):
        pie_bench_items(write(a=5))
    (tmp_path / "mapping_file.json").write_text("[]")
    with pytest.raises(
        ValueError, match=r"mapping_file.json' must hold one object, whose keys name the edits"
    ):
        pie_bench_items(tmp_path)
