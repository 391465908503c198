"""The commands in docs/publishing.md work with a Hub of our own."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.pipelines.versions import HIGHEST_TESTED, LOWEST, TOO_NEW
from semantic_edit.still_life.scenes import sample_scene
from tests.hub.conftest import WRITE_TOKEN

PAGE = (Path(__file__).parents[2] / "docs" / "publishing.md").read_text()


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("you/", "someone/").splitlines()
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def at_work(tmp_path, monkeypatch, this_process):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(sample_scene(7, objects=1).render()).save("apple.png")
    this_process.setenv("HF_TOKEN", WRITE_TOKEN)


def test_commands_run(at_work, hub, capsys):
    assert len(commands()) == 8
    # the model comes first: the friend's edit loads it
    for arguments in sorted(commands(), key=lambda arguments: arguments[:2] != ["publish", "model"]):
        fewer_steps = ["--steps", "2"] if arguments[0] == "learn" else []  # nobody looks at this picture
        assert main([*arguments, *fewer_steps]) == 0, (arguments, capsys.readouterr().err)
    assert Image.open("blue.png").size == (128, 128)
    for name in ("apple", "diffedit", "stylediffusion", "still-life"):
        assert len(hub.commits(f"someone/{name}")) == 2


def test_the_range_of_versions_is_the_code_s():
    lowest, highest = (".".join(map(str, version)) for version in (LOWEST, HIGHEST_TESTED))
    assert f"{lowest} to below {TOO_NEW[0]}.{TOO_NEW[1]}, tested with {lowest}.0" in PAGE
    assert f"and {highest}." in PAGE
