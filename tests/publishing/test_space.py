"""The page as a Space: a folder that runs by itself."""

import os
import subprocess
import sys

import pytest

from semantic_edit.cli import main
from semantic_edit.publishing.cards import check_card
from semantic_edit.publishing.errors import PublishError
from semantic_edit.publishing.space import build_space, pinned_requirements
from tests.hub.conftest import WRITE_TOKEN

pytest.importorskip("gradio", reason="the page needs Gradio")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    build_space(folder, "someone/page")
    return folder


def test_the_card_is_one_of_a_space(folder):
    card = check_card(folder).data
    assert (card["sdk"], card["app_file"]) == ("gradio", "app.py")
    assert card["sdk_version"] == pinned_requirements()["gradio"]


def test_a_card_of_a_space_names_its_version(folder, tmp_path):
    text = (folder / "README.md").read_text()
    (tmp_path / "README.md").write_text(text.replace("sdk_version", "version"))
    with pytest.raises(PublishError, match="lacks sdk_version"):
        check_card(tmp_path)


def test_every_requirement_is_pinned_to_a_release(folder):
    lines = (folder / "requirements.txt").read_text().split()
    assert {"torch", "diffusers", "gradio"} <= {line.partition("==")[0] for line in lines}
    assert not {"peft", "pytest"} & {line.partition("==")[0] for line in lines}
    assert all(line.count("==") == 1 and "+" not in line for line in lines)


@pytest.mark.slow
def test_the_app_runs_from_its_folder_alone(folder):
    """Isolated from the installed package: what it imports lies in the folder."""
    code = (
        "import sys; sys.meta_path[:] = [one for one in sys.meta_path if 'Editable' not in str(one)]; "
        "sys.path.insert(0, '.'); import semantic_edit.cli as cli; import semantic_edit.web.page as page; "
        "print(cli.__file__, page.__file__, sep='\\n'); "
        "cli.main = lambda words: print(*words); exec(open('app.py').read())"
    )
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        str(folder / "semantic_edit" / "cli.py"),
        str(folder / "semantic_edit" / "web" / "page.py"),
    ], done.stderr
    assert lines[2] == "web --host 0.0.0.0 --port 7860"


def test_a_space_arrives_as_one(hub, this_process, capsys):
    this_process.setenv("HF_TOKEN", WRITE_TOKEN)
    assert main(["publish", "space", "--to", "someone/page"]) == 0, capsys.readouterr().err
    files = hub.files("someone/page", repo_type="space")
    assert {"app.py", "requirements.txt", "README.md", "semantic_edit/web/page.py"} <= set(files)
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in files)
    assert not hub.has_repo("someone/page")


def test_without_gradio_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("semantic_edit.publishing.space.pinned_requirements", lambda: {"torch": "2.13.0"})
    with pytest.raises(PublishError, match=r"Gradio is not: pip install 'diffusers-semantic-edit\[web\]'"):
        build_space(tmp_path, "someone/page")
