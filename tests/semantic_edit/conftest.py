import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from semantic_edit import loading
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline


@pytest.fixture(scope="session")
def load_once() -> Callable[..., Any]:
    """As `load_pipeline`, but a model that was loaded is handed out again: pipelines keep nothing of a call."""
    return functools.cache(loading.load_pipeline)


@pytest.fixture(scope="session")
def model_folder(
    make_pipe: Callable[..., DiffEditPipeline], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model as `--model` takes it."""
    folder = tmp_path_factory.mktemp("model")
    make_pipe().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def style_folder(
    make_style_pipe: Callable[..., StyleDiffusionPipeline], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model with an image encoder."""
    folder = tmp_path_factory.mktemp("style-model")
    make_style_pipe().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mapping_folder(learned: MappingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`picture`, learned by the model of `style_folder` as "a red apple on grass"."""
    folder = tmp_path_factory.mktemp("mapping")
    learned.save_pretrained(folder)
    return folder


@pytest.fixture
def picture_file(tmp_path: Path, picture: PIL.Image.Image) -> Path:
    picture.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def only_error(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The only line on stderr since it was last looked at, in words for whoever types and not for who programs."""

    def line() -> str:
        lines = capsys.readouterr().err.strip().split("\n")
        assert len(lines) == 1, lines
        assert not re.search(r"`|numpy|torch\.|\bpipe[.(]|_pretrained|[a-z]=(True|None)", lines[0]), lines[0]
        return lines[0]

    return line


@pytest.fixture(autouse=True)
def spelled_words_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' tokenizer spells some of their words, and most tests here count the lines that are said."""
    monkeypatch.setattr("semantic_edit.pipelines.vocabulary.SMALL_VOCABULARY", 0)
