"""The pipelines accept every number that can be typed."""

import argparse

import pytest

from semantic_edit import edit_command, learn_command, restyle_command
from semantic_edit.disk.numbers import read_number
from semantic_edit.pipelines.ranges import NUMBERS

COMMANDS = {"edit": edit_command, "learn": learn_command, "restyle": restyle_command}
TYPED = [
    f"{sign}{value}"
    for value in (0, 1e-9, 0.001, 0.5, 0.999, 1, 2, 1000, 1001, 10_000, 10_001, 16384, 16385, 10**6, 10**9)
    for sign in ("", "-")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_typed_number_is_in_its_range(command):
    parser = argparse.ArgumentParser()
    COMMANDS[command].add_options(parser)
    tried = set()
    for action in parser._actions:
        name = COMMANDS[command].PIPELINE_OPTIONS.get(action.dest)
        if name not in NUMBERS or action.type is None:
            continue
        for text in TYPED:
            try:
                value = action.type(text)
            except argparse.ArgumentTypeError:
                continue
            read_number(name, value, *NUMBERS[name])
            tried.add(name)
    assert "guidance_scale" in tried
