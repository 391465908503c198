"""The commands and code in the documents run as they stand, with the embedded model."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.evaluation.metrics import ALWAYS, OPTIONAL
from semantic_edit.evaluation.sweeps import METHODS
from semantic_edit.still_life.scenes import sample_scene

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text()
EVALUATION_PAGE = (ROOT / "docs" / "evaluation.md").read_text()
DEMO = (ROOT / "Makefile").read_text()
FEWER_STEPS = {"edit": ["--steps", "4"], "learn": ["--steps", "2"]}  # nobody looks at these pictures


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text):
    """The arguments of each `semantic-edit` in the document's shell blocks, without the command itself."""
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("semantic-edit ")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [README, CLI_PAGE], ids=["README", "cli"])
def test_commands_run_in_order(page, folder, loads_once, monkeypatch):
    monkeypatch.setattr("semantic_edit.web_command.run", lambda options: None)  # it would serve for ever
    assert len(commands(page)) >= 2
    for arguments in commands(page):
        assert main([*arguments, *FEWER_STEPS.get(arguments[0], [])]) == 0, arguments
    for arguments in commands(page):
        if arguments[0] == "web":
            continue
        output = Path(arguments[arguments.index("-o") + 1])
        assert output.exists() or output.with_stem(f"{output.stem}-1").is_file()


@pytest.mark.filterwarnings("ignore:The learning did not converge")  # in so few steps it need not
def test_the_python_of_the_readme_runs(folder):
    program = "".join(blocks(README, "python"))
    for call, fewer_steps in {  # nobody looks at these pictures
        "pipe(image=picture,": "pipe(num_inference_steps=4, image=picture,",
        "learn_mapping(picture,": "learn_mapping(num_inference_steps=2, image=picture, prompt=",
    }.items():
        assert call in program
        program = program.replace(call, fewer_steps)
    (folder / "demo").mkdir()
    Image.fromarray(sample_scene(7, objects=1).render()).save("demo/before.png")
    exec(compile(program, "README.md", "exec"), {})
    assert Image.open("after.png").size == Image.open("blue.png").size == (128, 128)


def test_the_evaluation_page_runs(folder):
    (command,) = commands(EVALUATION_PAGE)
    assert main([*command, "--steps", "2", "--count", "1"]) == 0
    assert (folder / "results" / "report.md").is_file()
    (program,) = blocks(EVALUATION_PAGE, "python")
    exec(compile(program, "evaluation.md", "exec"), {})


@pytest.mark.parametrize("name", [*METHODS, *ALWAYS, *OPTIONAL])
def test_the_evaluation_page_names_every_method_and_metric(name):
    method, _, rest = name.partition("-")
    if name in METHODS and method in ("diffedit", "stylediffusion"):
        assert f"`{method}`" in EVALUATION_PAGE
        assert not rest or f"`-{rest}`" in EVALUATION_PAGE
    else:
        assert f"`{name}`" in EVALUATION_PAGE


@pytest.mark.parametrize("page", [README, CLI_PAGE, DEMO], ids=["README", "cli", "demo"])
def test_scene_7_is_described_as_it_is(page):
    assert "--seed 7 --objects 1" in page
    assert sample_scene(7, objects=1).caption(wording=0) in page


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "docs/cli.md"])
def test_linked_files_exist(path):
    page = ROOT / path
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_the_readme_shows_before_it_tells():
    lines = README.splitlines()
    assert any(line.startswith("![") for line in lines[:5])
    assert "make demo" in lines[:20]
    assert "```python" in lines[:40]
