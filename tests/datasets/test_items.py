from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from semantic_edit.datasets.items import BadRow, EditItem, ItemCollector, RowError, safe_name

TABLE = Path("some/prompts.csv")


def item(name: str) -> EditItem:
    return EditItem(name, "a cat", "a dog", "picture", lambda: Image.new("RGB", (8, 6)))


def test_an_item_reads_its_picture_only_when_asked_and_has_no_mask_unless_given():
    opened = []
    lazy = EditItem("name", "", "a dog", "picture", lambda: opened.append(1) or Image.new("RGB", (8, 6)))
    assert not opened
    assert lazy.image.size == (8, 6)
    assert opened == [1]
    assert lazy.mask is None


@pytest.mark.parametrize("text", ["000000000012", "cat-3_b.1", "A"])
def test_a_name_that_is_safe_stays(text):
    assert safe_name(text) == text


@pytest.mark.parametrize(
    "text", ["../etc", "a/b", "a\\b", ".hidden", "-rf", "ä", "", "con sp", "x" * 300, "a:b"]
)
def test_a_name_that_is_not_is_made_safe_and_stays_its_own(text):
    safe = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,140}", safe)
    assert safe != safe_name(text + "ö")
    assert safe == safe_name(text)


def test_names_without_a_safe_character_stay_apart_in_any_number():
    letters = [chr(0x4E00 + number) for number in range(400)]
    names = {safe_name(one + other) for one in letters for other in letters}
    assert len(names) == 160_000
    assert {len(name) for name in names} == {16}  # hexadecimal digits: with half of them, a few would meet


def test_bad_rows_are_all_named_in_one_error_but_no_more_than_twenty():
    rows = ItemCollector(TABLE, "fail", None)
    for number in range(1, 24):
        with rows.row(f"line {number}"):
            raise RowError("nothing there")
    with pytest.raises(ValueError, match=r"prompts.csv' has rows that cannot be used, 23 in all:") as raised:
        rows.finish()
    text = str(raised.value)
    assert "  line 1: nothing there\n" in text
    assert "line 20:" in text
    assert "line 21:" not in text
    assert "  and 3 more\n" in text
    assert 'pass on_bad="skip"' in text


def test_skipped_rows_are_reported_with_file_and_line():
    reported: list[BadRow] = []
    rows = ItemCollector(TABLE, "skip", reported.append)
    with rows.row("line 2") as items:
        items.append(item("half-done"))
        raise RowError("nothing there")
    with rows.row("line 3") as items:
        items.append(item("whole"))
    assert [one.name for one in rows.finish()] == ["whole"]
    assert reported == [BadRow(TABLE, "line 2", "nothing there")]
    assert str(reported[0]) == "some/prompts.csv, line 2: nothing there"


def test_without_a_callback_skipped_rows_are_warned_of():
    rows = ItemCollector(TABLE, "skip", None)
    with pytest.warns(UserWarning, match=r"left out: some/prompts.csv, line 2: malformed"):
        rows.bad("line 2", "malformed")


def test_an_error_that_is_not_the_rows_comes_through():
    rows = ItemCollector(TABLE, "skip", None)
    with pytest.raises(KeyError), rows.row("line 2"):
        raise KeyError


def test_names_that_differ_in_case_alone_are_the_same():
    rows = ItemCollector(TABLE, "fail", None)
    for line, name in enumerate(("Cat", "cat"), 2):
        with rows.row(f"line {line}") as items:
            items.append(item(name))
    with pytest.raises(ValueError, match=r"line 3: the same edit of the same picture, 'cat', as in line 2"):
        rows.finish()


def test_a_row_may_not_give_one_name_twice():
    rows = ItemCollector(TABLE, "fail", None)
    with rows.row("line 2") as items:
        items.extend([item("cat"), item("cat")])
    with pytest.raises(ValueError, match=r"as in line 2"):
        rows.finish()


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match=r"gives nothing to edit: it has no rows"):
        ItemCollector(TABLE, "skip", None).finish()
    rows = ItemCollector(TABLE, "skip", lambda row: None)
    rows.bad("line 1", "malformed")
    with pytest.raises(ValueError, match=r"gives nothing to edit: all 1 were bad and skipped"):
        rows.finish()


def test_on_bad_is_fail_or_skip():
    with pytest.raises(ValueError, match=r'`on_bad` must be "fail" or "skip", got \'ignore\''):
        ItemCollector(TABLE, "ignore", None)  # type: ignore[arg-type]
