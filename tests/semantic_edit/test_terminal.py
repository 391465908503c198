import io
import sys

import pytest

from semantic_edit.cli import main
from semantic_edit.terminal import complain, say, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain café ü 猫 🍎", "plain café ü 猫 🍎"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("half \udcff", "half \\udcff"),
        ("turned \u202e round", "turned \\u202e round"),
        ("\x07\x00\x7f\x9b", "\\x07\\x00\\x7f\\x9b"),
    ],
)
def test_nothing_steers_the_terminal(text, shown, capsys):
    assert visible(text) == shown
    say(text)
    assert capsys.readouterr().out == f"{shown}\n"


def test_a_terminal_of_few_letters_gets_the_others_by_their_numbers(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    say("café 猫")
    assert narrow.buffer.getvalue() == b"caf\\xe9 \\u732b\n"


def test_a_complaint_is_one_line(capsys):
    complain("warning", "a\n  long \x1b[2J story")
    assert capsys.readouterr().err == "semantic-edit: warning: a long \\x1b[2J story\n"


@pytest.mark.parametrize(
    "command",
    [
        ["edit", "no\x1b[31m.png", "--prompt", "x", "-o", "out.png"],
        ["edit", "\udcff.png", "--prompt", "x", "-o", "out.png"],
        ["edit", "a.png", "--prompt", "x", "-o", "\x1b]0;title\x07.txt"],
        ["restyle", "--mapping", "\x1b[2J", "--prompt", "x", "-o", "out.png"],
        ["evaluate", "--data", "\x1b[2J", "--out", "out"],
        ["learn", "\x1b[2J.png", "--prompt", "x", "-o", "out"],
    ],
)
def test_what_was_typed_is_shown_and_does_nothing(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert "\\x1b" in printed.err or "\\udcff" in printed.err
    assert "\x1b" not in printed.err + printed.out


def test_argparse_too_shows_what_was_typed(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["edit", "a.png", "--prompt", "x", "-o", "b.png", "--\x1b[31m"])
    assert "unrecognized arguments: --\\x1b[31m" in capsys.readouterr().err


def test_names_that_were_written_are_shown_so_too(tmp_path, capsys):
    path = tmp_path / "\x1b[31m\n.png"
    assert main(["bundle", "diffedit", "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/\\x1b[31m\\n.png\n"
    assert path.is_file()
