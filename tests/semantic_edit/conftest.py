import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from safetensors.torch import save_file

from semantic_edit import loading
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
)
from tests.hub.conftest import hub, this_process

__all__ = ["hub", "this_process"]


@pytest.fixture(scope="session")
def load_once() -> Callable[..., Any]:
    """As `load_pipeline`, but a model that was loaded is handed out again: pipelines keep nothing of a call."""
    return functools.cache(loading.load_pipeline)


@pytest.fixture
def loads_once(monkeypatch: pytest.MonkeyPatch, load_once: Callable[..., Any]) -> None:
    """For commands whose model is not what is looked at."""
    for command in ("edit_command", "learn_command", "loading"):
        monkeypatch.setattr(f"semantic_edit.{command}.load_pipeline", load_once)


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
def xl_folder(
    make_xl_style_pipe: Callable[..., StableDiffusionXLStyleDiffusionPipeline],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The tiny model of SDXL's layout with an image encoder."""
    folder = tmp_path_factory.mktemp("xl-model")
    make_xl_style_pipe().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def xl_mapping_folder(xl_learned: MappingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`picture`, learned by the model of `xl_folder` as "a red apple on grass"."""
    folder = tmp_path_factory.mktemp("xl-mapping")
    xl_learned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mapping_folder(learned: MappingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`picture`, learned by the model of `style_folder` as "a red apple on grass"."""
    folder = tmp_path_factory.mktemp("mapping")
    learned.save_pretrained(folder)
    return folder


@pytest.fixture
def single_file(pipe: DiffEditPipeline, tmp_path: Path) -> Path:
    """A checkpoint with only the tiny text encoder: diffusers converts UNets and VAEs only at their real sizes."""
    tensors = {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": one
        for name, one in pipe.text_encoder.state_dict().items()
    }
    path = tmp_path / "model.safetensors"
    save_file({name: one.contiguous() for name, one in tensors.items()}, path)
    return path


@pytest.fixture
def picture_file(tmp_path: Path, picture: PIL.Image.Image) -> Path:
    picture.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def only_error(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The only line on stderr since the last call, which must be in terms of the command line and not of Python."""

    def line() -> str:
        lines = capsys.readouterr().err.strip().split("\n")
        assert len(lines) == 1, lines
        assert not re.search(r"`|numpy|torch\.|\bpipe[.(]|_pretrained|[a-z]=(True|None)", lines[0]), lines[0]
        return lines[0]

    return line
