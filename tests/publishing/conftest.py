import pytest

from semantic_edit.publishing.pipelines import PIPELINES, pipeline_file
from tests.hub.conftest import hub, this_process

__all__ = ["hub", "this_process"]


@pytest.fixture(scope="session")
def files() -> dict[str, str]:
    """Each pipeline's one file."""
    return {name: pipeline_file(name) for name in PIPELINES}
