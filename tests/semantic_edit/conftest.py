from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from semantic_edit.pipelines import DiffEditPipeline


@pytest.fixture(scope="session")
def model_folder(
    make_pipe: Callable[..., DiffEditPipeline], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model as `--model` takes it."""
    folder = tmp_path_factory.mktemp("model")
    make_pipe().save_pretrained(folder)
    return folder


@pytest.fixture
def picture_file(tmp_path: Path, picture: PIL.Image.Image) -> Path:
    picture.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"
