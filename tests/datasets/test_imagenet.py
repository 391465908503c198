from __future__ import annotations

import pytest

from semantic_edit.datasets.imagenet import imagenet_items

CAT, DOG = "n02123045", "n02099601"
PAIR = {"source": "tabby_cat", "target": "golden_retriever"}


@pytest.fixture
def classes(tmp_path, paint):
    """Five images of a class with a plain name, and two of a class with a WordNet id."""
    for number in range(5):
        paint(tmp_path / "tabby_cat" / f"{number}.png")
    for number in range(2):
        paint(tmp_path / CAT / f"{CAT}_{number}.JPEG")
    (tmp_path / "tabby_cat" / "notes.txt").write_text("no picture, and nobody's business")
    return tmp_path


def test_each_picture_of_the_source_is_to_become_the_target(classes, write_lines):
    write_lines(classes / "class_pairs.jsonl", PAIR)
    items = imagenet_items(classes)
    assert [one.name for one in items] == [f"tabby_cat-{number}-to-golden_retriever" for number in range(5)]
    assert {(one.source_prompt, one.prompt) for one in items} == {
        ("a photo of a tabby cat", "a photo of a golden retriever")
    }
    assert items[0].image.size == (8, 6)
    assert items[0].mask is None


def test_true_pictures_of_the_target_come_from_its_folder_if_it_is_there(classes, write_lines):
    write_lines(
        classes / "class_pairs.jsonl", PAIR, {"source": CAT, "target": "tabby_cat", "source_words": "cat"}
    )
    dogs, cats = imagenet_items(classes)[0], imagenet_items(classes)[-1]
    assert dogs.target_class == "golden_retriever"
    assert dogs.load_examples is None
    assert cats.target_class == "tabby_cat"
    assert [one.size for one in cats.load_examples()] == [(8, 6)] * 5


def test_words_come_from_the_row_then_the_synsets(classes, write_lines):
    (classes / "LOC_synset_mapping.txt").write_text(f"{CAT} tabby, tabby cat\n{DOG} golden retriever\n\n")
    write_lines(classes / "class_pairs.jsonl", {"source": CAT, "target": DOG, "source_words": "striped cat"})
    items = imagenet_items(classes, template="{name}!", source_template="the {name}")
    assert [one.name for one in items] == [f"{CAT}-{CAT}_{number}-to-{DOG}" for number in range(2)]
    assert {(one.source_prompt, one.prompt) for one in items} == {("the striped cat", "golden retriever!")}
    assert {one.source_prompt for one in imagenet_items(classes, source_template="")} == {""}


def test_csv_serves_too_and_may_leave_words_empty(classes):
    (classes / "class_pairs.csv").write_text(
        "source,target,target_words\ntabby_cat,tiger,\ntabby_cat,puma,big cat\n"
    )
    assert [one.prompt for one in imagenet_items(classes, count=1)] == [
        "a photo of a tiger",
        "a photo of a big cat",
    ]


def test_pictures_are_chosen_by_seed_alike_for_each_pair_and_nested(classes, write_lines):
    write_lines(classes / "class_pairs.jsonl", PAIR, {**PAIR, "target": "tiger"})
    chosen = {
        (count, seed): [one.group for one in imagenet_items(classes, count=count, seed=seed)]
        for count in (1, 2, 3)
        for seed in range(8)
    }
    assert len({tuple(groups) for groups in chosen.values()}) > 8
    for (count, seed), groups in chosen.items():
        assert groups[:count] == groups[count:] == sorted(groups[:count])
        assert set(groups) <= set(chosen[min(count + 1, 3), seed])
        assert groups == [one.group for one in imagenet_items(classes, count=count, seed=seed)]


def test_the_choice_is_the_same_on_every_machine(classes, write_lines):
    write_lines(classes / "class_pairs.jsonl", PAIR)
    assert [one.group for one in imagenet_items(classes, count=2, seed=0)] == [
        "tabby_cat/3.png",
        "tabby_cat/4.png",
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"source": "tabby_cat"}, "line 1: `target` is missing; there is source"),
        ({**PAIR, "source": "tiger"}, "line 1: there is no folder 'tiger' in"),
        ({**PAIR, "source": "../tabby_cat"}, "line 1: `source` must be a class, not a path: '../tabby_cat'"),
        ({**PAIR, "source": ".."}, r"line 1: `source` must be a class, not a path: '\.\.'"),
        ({**PAIR, "target": ".."}, r"line 1: `target` must be a class, not a path: '\.\.'"),
        ({**PAIR, "target": "."}, "`target` must be a class"),
        ({**PAIR, "target": "/etc"}, "`target` must be a class, not a path: '/etc'"),
        ({**PAIR, "target": "c:pictures"}, "`target` must be a class"),
        ({**PAIR, "target": "a\\b"}, "`target` must be a class"),
        ({**PAIR, "target": "a\0b"}, "`target` must be a class"),
        ({**PAIR, "source": "empty"}, "line 1: the folder 'empty' has 0 pictures, of 1 asked for"),
        ({**PAIR, "target": "tabby_cat"}, "line 1: `source` and `target` are the same, 'tabby_cat'"),
        (
            {**PAIR, "target": DOG},
            f"line 1: '{DOG}' is no word for a prompt: add `target_words` to the row, or LOC_",
        ),
        ({**PAIR, "source_words": 5}, "line 1: `source_words` must be text, got 5"),
    ],
)
def test_a_bad_pair_fails_or_is_skipped(classes, write_lines, row, reason):
    (classes / "empty").mkdir()
    write_lines(classes / "class_pairs.jsonl", row, {**PAIR, "target": "tiger"})
    with pytest.raises(ValueError, match=reason):
        imagenet_items(classes)
    reported = []
    assert len(imagenet_items(classes, "skip", reported.append)) == 5
    assert [one.where for one in reported] == ["line 1"]


def test_fewer_pictures_than_asked_for_are_a_bad_pair(classes, write_lines):
    write_lines(classes / "class_pairs.jsonl", PAIR)
    with pytest.raises(ValueError, match=r"the folder 'tabby_cat' has 5 pictures, of 6 asked for"):
        imagenet_items(classes, count=6)


def test_a_bad_picture_leaves_the_others_of_its_pair(classes, write_lines):
    (classes / "tabby_cat" / "2.png").write_text("no picture")
    write_lines(classes / "class_pairs.jsonl", PAIR)
    reported = []
    assert len(imagenet_items(classes, "skip", reported.append)) == 4
    assert [one.where for one in reported] == ["line 1, picture '2.png'"]


def test_a_pair_given_twice_is_bad(classes, write_lines):
    write_lines(classes / "class_pairs.jsonl", PAIR, PAIR)
    with pytest.raises(ValueError, match=r"line 2, picture '0.png': the same edit of the same picture"):
        imagenet_items(classes)


def test_malformed_synsets_are_named(classes, write_lines):
    write_lines(classes / "class_pairs.jsonl", PAIR)
    (classes / "LOC_synset_mapping.txt").write_text(f"{CAT} tabby\n{DOG}\n")
    with pytest.raises(
        ValueError, match=r"LOC_synset_mapping.txt', line 2, must be an id, a space and names, got"
    ):
        imagenet_items(classes)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"count": 0}, "`count` must be positive, or None for all pictures, got 0"),
        ({"template": ""}, "`template` must have {name} where the class goes, got ''"),
        (
            {"source_template": "a photo"},
            "`source_template` must have {name} where the class goes, got 'a photo'",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(classes, write_lines, options, reason):
    write_lines(classes / "class_pairs.jsonl", PAIR)
    with pytest.raises(ValueError, match=reason):
        imagenet_items(classes, **options)
