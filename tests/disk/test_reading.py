import os
import re

import pytest

from semantic_edit.disk.reading import (
    check_fields,
    check_is_file,
    one_of,
    or_none,
    parse_object,
    plain_text,
    read_object,
    real_number,
    rising,
    several,
    shortened,
    whole_number,
)

DEEP = "[" * 200_000
LONG = "1" * 5000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is malformed JSON at line 1, column 1: Expecting value"),
        (b'{"a": 1,\n}', "is malformed JSON at line 2"),
        (b"[1, 2]", r"must be a JSON object with names and values, got \[1, 2\]"),
        (b"null", "must be a JSON object with names and values, got None"),
        (b'{"a": \xff}', "is JSON that cannot be read: .*utf-8"),
        (f'{{"a": {DEEP}'.encode(), "is JSON that cannot be read: .*recursion"),
        (f'{{"a": {LONG}}}'.encode(), "is JSON that cannot be read: Exceeds the limit"),
        (b'{"a": "' + b"x" * 17_000_000 + b'"}', "is too large to be read as JSON: 17,000,009 bytes"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_files_name(tmp_path, content, reason):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^'{re.escape(str(tmp_path))}/config\.json' {reason}"):
        read_object(tmp_path / "config.json")


def test_a_pipe_a_folder_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder"), ("/dev/null", "a device")):
        with pytest.raises(ValueError, match=f"is {kind}, and a file is needed"):
            check_is_file(path)
    with pytest.raises(FileNotFoundError):
        check_is_file(tmp_path / "missing")


def test_fields_are_named_that_are_missing_unknown_or_wrong():
    rules = {"steps": whole_number(1, 10), "prompt": plain_text()}
    check_fields({"steps": 3, "prompt": ""}, rules, "the thing")
    with pytest.raises(ValueError, match=r"^the thing lacks prompt and has unknown entries a, b"):
        check_fields({"steps": 3, "b": 0, "a": 0}, rules, "the thing")
    with pytest.raises(ValueError, match=r"^'steps' of the thing must be an integer from 1 to 10, got '3'\."):
        check_fields({"steps": "3", "prompt": ""}, rules, "the thing")


INFINITE, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (whole_number(1, 9), [1, 9], [0, 10, 10**30, 1.0, True, "1", None, NAN, [1]]),
        (real_number(), [0, -2, 1e29, 0.5], [NAN, INFINITE, -INFINITE, 10**400, 1e31, True, "1", None]),
        (real_number(0, 1), [0, 1, 0.5], [-0.1, 1.1, NAN, None]),
        (plain_text(3), ["", "abc", "é\n"], ["abcd", "\ud800", 3, None, ["a"]]),
        (one_of("a", "b"), ["a", "b"], ["c", "", None, 1, ["a"], {}]),
        (or_none(whole_number(1, 9)), [None, 1], [0, "", False]),
        (several(plain_text(), 1, 2), [["a"], ("a", "b")], [[], ["a"] * 3, "ab", [1], None, {"a": 1}]),
        (rising(100, are_whole=False), [[0.5, 1], [2.0]], [[1.5, 1.5], [float("nan")], [True]]),
        (
            rising(100),
            [[], [0], [1, 5, 100]],
            [[1, 1], [2, 1], [-1], [101], [1.0], [True], [10**30], "12", None],
        ),
    ],
)
def test_each_rule_lets_in_what_is_right_and_nothing_else(rule, right, wrong):
    is_right, meaning = rule
    assert [value for value in right if not is_right(value)] == []
    assert [value for value in wrong if is_right(value)] == []
    assert meaning


def test_an_error_shows_no_more_than_a_line():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 1000, list(range(1000)), deep, 10**6000):
        assert len(shortened(value)) <= 60


def test_text_is_parsed_as_a_file_is():
    assert parse_object('{"a": 1}', "the text") == {"a": 1}
    with pytest.raises(ValueError, match=r"^the text is malformed JSON"):
        parse_object("nonsense", "the text")
