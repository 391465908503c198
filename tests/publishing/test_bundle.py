"""How modules are combined into one file: what is kept, in which order, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from semantic_edit.publishing.bundle import Bundle
from semantic_edit.publishing.imports import render_imports
from semantic_edit.publishing.pipelines import pipeline_file, source_version
from semantic_edit.publishing.published import PIPELINES
from semantic_edit.publishing.sources import BundleError, Import, parse_module

ROOT = Path(__file__).parents[2]
BASE = '''"""What all stand on."""
import math

# half a turn
HALF = math.pi
"""In radians."""


def unused():
    return HALF
'''
MIDDLE = (
    "from semantic_edit.base import HALF\n\n\ndef turn(angle: float) -> float:\n    return angle + HALF\n"
)
TOP = (
    "from semantic_edit.middle import turn\n\n\nclass Wheel:\n    def roll(self):\n        return turn(0.0)\n"
)


def bundled(modules: dict[str, str], module: str = "top", name: str = "Wheel") -> str:
    def read(full_name):
        return parse_module(full_name, Path(full_name), modules[full_name.rpartition(".")[2]])

    gathered = Bundle(read)
    gathered.reach(f"semantic_edit.{module}", name)
    return gathered.render("One file.")


def test_what_is_reached_stands_after_what_it_needs_and_the_rest_is_left_out():
    text = bundled({"base": BASE, "middle": MIDDLE, "top": TOP})
    assert "unused" not in text
    assert text.index("HALF = math.pi") < text.index("def turn") < text.index("class Wheel")
    space: dict = {"__name__": "one_file"}
    exec(compile(text, "one_file.py", "exec"), space)
    assert space["Wheel"]().roll() == pytest.approx(3.14159265)


def test_comments_and_docstrings_are_kept():
    text = bundled({"base": BASE, "middle": MIDDLE, "top": TOP})
    assert '# half a turn\nHALF = math.pi\n"""In radians."""\n' in text
    assert "# What all stand on.\n" in text


def test_a_name_that_a_package_passes_on_is_found_where_it_is_defined():
    package = "from semantic_edit.middle import turn\n"
    top = TOP.replace("semantic_edit.middle", "semantic_edit.package")
    text = bundled({"base": BASE, "middle": MIDDLE, "package": package, "top": top})
    assert text.count("def turn") == 1


# modules that take the place of those above, and why they are refused
REFUSED = {
    "HALF has gone": ({"base": "OTHER = 1\n"}, "semantic_edit.base has no 'HALF'"),
    "two meanings": (
        {"top": TOP.replace("turn(0.0)", "turn(HALF)").replace("\n\nclass", "\nHALF = 2\n\n\nclass")},
        "semantic_edit.top, line 3: `HALF` is also bound by semantic_edit.base, line 5",
    ),
    "another name": (
        {"middle": MIDDLE.replace("HALF", "HALF as PI", 1).replace("+ HALF", "+ PI")},
        "as they are",
    ),
    "a module": (
        {"middle": "import semantic_edit.base as base\n\nturn = base.HALF\n"},
        "line 1: import names from",
    ),
    "two imports": (
        {
            "base": "import numpy as math\n\nHALF = math.pi\n",
            "middle": "import math\n" + MIDDLE.replace("+ HALF", "+ HALF * math.tau"),
        },
        "`math` is",
    ),
    "a builtin": (
        {
            "base": "HALF = 3\n\n\ndef len(sequence):\n    return HALF\n",
            "middle": MIDDLE.replace("HALF", "len"),
        },
        "`len` is a builtin",
    ),
    "a star": ({"base": "from math import *\n\nHALF = pi\n"}, "base, line 1: a star import"),
    "relative": ({"base": "from . import other\n\nHALF = 1\n"}, "base, line 1: a relative import"),
    "a condition": (
        {"base": "if True:\n    HALF = 1\n"},
        "line 1: a bundled module may contain only .* this is If",
    ),
    "by name": (
        {"base": "import importlib\n\nHALF = importlib.import_module('math').pi\n"},
        "line 3: `import_module`",
    ),
    "evaluated": ({"base": "HALF = eval('3')\n"}, "line 1: `eval`"),
    "files": ({"base": "HALF = len(__file__)\n"}, "line 1: `__file__`"),
    "late": (
        {"middle": MIDDLE.replace("    return", "    from semantic_edit.base import unused\n\n    return")},
        "middle, line 5: `semantic_edit.base` is imported inside a function",
    ),
    "a circle": (
        {"base": "from semantic_edit.middle import turn\n\nHALF = 1\n"},
        "modules that import each other",
    ),
    "seeming": (
        {"base": 'HALF = """\nfrom nowhere import nothing\n"""\n'},
        "make diffusers look for a package",
    ),
}


@pytest.mark.parametrize(("changed", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_one_file_is_refused_with_its_place(changed, reason):
    with pytest.raises(BundleError, match=reason):
        bundled({"base": BASE, "middle": MIDDLE, "top": TOP, **changed})


def test_imports_are_hoisted_in_the_formatter_s_order():
    text = render_imports(
        {
            Import("torch"),
            Import("os"),
            Import("torch.nn.functional", "", "F"),
            Import("typing", "Any"),
            Import("diffusers", "logging"),
            Import("diffusers", "DDIMScheduler"),
            Import("torch.utils.checkpoint", "checkpoint", "recomputed"),
        }
    )
    assert text.splitlines() == [
        "import os",
        "from typing import Any",
        "",
        "import torch",
        "import torch.nn.functional as F",
        "from diffusers import DDIMScheduler, logging",
        "from torch.utils.checkpoint import checkpoint as recomputed",
    ]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "diffedit" else pytest.mark.slow) for name in PIPELINES]
)
def test_a_pipeline_s_file_is_the_same_every_time_and_as_clean_as_its_sources(name, files, tmp_path):
    text = pipeline_file(name)
    heading, body = text.split('"""\n', 1)
    assert source_version() in heading
    assert body == files[name].split('"""\n', 1)[1]  # whose heading may tell of another commit by now
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", ROOT / "pyproject.toml", path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_s_file_needs_nothing_of_this_package(name, files):
    imports = [line for line in files[name].splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in imports if "semantic_edit" in line]
