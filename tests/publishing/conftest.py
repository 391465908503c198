import pytest

from semantic_edit.publishing.pipelines import pipeline_file
from semantic_edit.publishing.published import PIPELINES
from tests.hub.conftest import hub, this_process

__all__ = ["hub", "this_process"]


@pytest.fixture(scope="session")
def files() -> dict[str, str]:
    """Each pipeline's one file."""
    return {name: pipeline_file(name) for name in PIPELINES}


@pytest.fixture
def bundles_once(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For repositories whose pipelines are not what is looked at."""
    monkeypatch.setattr("semantic_edit.publishing.repositories.pipeline_file", files.__getitem__)
