from __future__ import annotations

import pytest

from semantic_edit.datasets.items import ItemCollector, RowError
from semantic_edit.datasets.records import (
    only_file,
    optional_text,
    read_json,
    read_records,
    text_of,
)


def read(path, content):
    """The records of a file, and its bad rows."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    bad = []
    return list(read_records(path, ItemCollector(path, "skip", bad.append))), [
        (one.where, one.reason) for one in bad
    ]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_byte_order_mark_and_either_end_of_line_are_taken(tmp_path, mark, end):
    rows = b"image,prompt" + end + b"a.png,a dog" + end
    assert read(tmp_path / "a.csv", mark + rows) == ([("line 2", {"image": "a.png", "prompt": "a dog"})], [])
    lines = b'{"a": 1}' + end + end + b'{"a": 2}' + end
    assert read(tmp_path / "a.jsonl", mark + lines) == ([("line 1", {"a": 1}), ("line 3", {"a": 2})], [])


def test_a_row_of_several_lines_stands_where_it_begins(tmp_path):
    records, bad = read(tmp_path / "a.csv", 'image, prompt\n"a\nb", x\n\nc, y\nd\n')
    assert records == [
        ("line 2", {"image": "a\nb", "prompt": "x"}),
        ("line 5", {"image": "c", "prompt": "y"}),
    ]
    assert bad == [("line 6", "has 1 fields, the first line names 2: quote what has commas")]


def test_malformed_csv_is_a_bad_row(tmp_path):
    records, bad = read(tmp_path / "a.csv", 'image,prompt\n"a"b,x\nc,y\n"d,z\n')
    assert records == [("line 3", {"image": "c", "prompt": "y"})]
    assert [where for where, _ in bad] == ["line 2", "line 4"]
    assert bad[0][1].startswith("malformed CSV: ")


@pytest.mark.parametrize("content", ["", "\n", "image,image\n", '"image\n'])
def test_csv_needs_a_first_line_of_names(tmp_path, content):
    with pytest.raises(ValueError, match=r"[Tt]he first line of '.*a.csv'"):
        read(tmp_path / "a.csv", content)


def test_malformed_json_lines_are_bad_rows(tmp_path):
    records, bad = read(tmp_path / "a.jsonl", '{"a": \n[1]\n{"a": 1}\n' + "[" * 100_000 + "\n" + "1" * 5000)
    assert records == [("line 3", {"a": 1})]
    assert bad[0] == ("line 1", "malformed JSON at column 7: Expecting value")
    assert bad[1] == ("line 2", "must be an object with keys, got [1]")
    assert [where for where, _ in bad[2:]] == ["line 4", "line 5"]


def test_a_line_of_json_goes_on_past_characters_that_break_lines_elsewhere(tmp_path):
    text = '{"a": "one\u2028two\x85three"}\n'
    assert read(tmp_path / "a.jsonl", text) == ([("line 1", {"a": "one\u2028two\x85three"})], [])


def test_a_json_list_counts_its_entries(tmp_path):
    assert read(tmp_path / "a.json", '[{"a": 1}, 5]') == (
        [("entry 1", {"a": 1})],
        [("entry 2", "must be an object with keys, got 5")],
    )
    with pytest.raises(ValueError, match=r"must hold a list of objects, got \{'a': 1\}"):
        read(tmp_path / "a.json", '{"a": 1}')


def test_what_is_not_utf_8_is_named_by_its_line(tmp_path):
    with pytest.raises(ValueError, match=r"a.jsonl', line 2, is not UTF-8"):
        read(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": "\xe4"}\n')


def test_malformed_json_is_named_by_line_and_column(tmp_path):
    (tmp_path / "a.json").write_text('{\n"a": }')
    with pytest.raises(ValueError, match=r"a.json' is malformed JSON at line 2, column 6: Expecting value"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a.json' is JSON that cannot be read: |malformed JSON"):
        read_json(tmp_path / "a.json")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.txt' must end in one of .csv, .jsonl, .json"):
        read(tmp_path / "a.txt", "")


def test_texts_are_found_under_the_first_key_that_is_there():
    assert text_of({"image": None, "file_name": " a.png "}, "image", "file_name") == "a.png"
    assert text_of({"source_prompt": " "}, "source_prompt", may_be_empty=True) == ""
    assert optional_text({}, "kind") == optional_text({"kind": None}, "kind") == ""


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"picture": "a.png"}, "`image` or `file_name` is missing; there is picture"),
        ({}, "`image` or `file_name` is missing; there is nothing"),
        ({"image": 5}, "`image` must be text, got 5"),
        ({"image": ["x" * 99]}, "`image` must be text, got \\['xxx.*\\.\\.\\."),
        ({"image": " "}, "`image` is empty"),
    ],
)
def test_texts_that_are_none_are_refused(record, reason):
    with pytest.raises(RowError, match=reason):
        text_of(record, "image", "file_name")


def test_exactly_one_table_counts(tmp_path):
    with pytest.raises(ValueError, match=r"There is no a.csv or b.csv in '"):
        only_file([tmp_path], ["a.csv", "b.csv"], "Remove one.")
    (tmp_path / "b.csv").touch()
    assert only_file([tmp_path], ["a.csv", "b.csv"], "Remove one.") == tmp_path / "b.csv"
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"Which of '.*a.csv', '.*b.csv' counts\? Remove one\."):
        only_file([tmp_path], ["a.csv", "b.csv"], "Remove one.")
