"""`from tests.hub.conftest import hub, this_process` in another folder's conftest.py lends these to its tests."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.hub.endpoints import Account
from tests.hub.server import HubServer

WRITE_TOKEN = "someone-may-write"
READ_TOKEN = "someone-may-read"
OTHER_TOKEN = "another-may-write"
ACCOUNTS = {
    WRITE_TOKEN: Account("someone"),
    READ_TOKEN: Account("someone", "read"),
    OTHER_TOKEN: Account("another"),
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """An empty Hub on which "someone" and "another" have accounts."""
    with HubServer(tmp_path / "hf-home", ACCOUNTS) as server:
        yield server


@pytest.fixture
def this_process(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Makes `hub` the Hub of this process, without a token; set HF_TOKEN with what it returns.

    If the client repeats a request, it does so immediately.

    The client has already read its environment when it was imported, so its constants are patched. Custom code from a
    repository would still be cached in the usual place: load that in another process, with `HubServer.environment`.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    changed = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(hub.home / "hub"),
        "HF_TOKEN_PATH": str(hub.home / "token"),
        "HF_STORED_TOKENS_PATH": str(hub.home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
    }
    for name, value in changed.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.endpoint)
    no_wait = SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.utils._http.time", no_wait)
    if "transformers.utils.hub" in sys.modules:
        # It keeps a client, which knows the Hub of the test in which it was first needed
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
    # Clients before 1.0 have their own copy of this one
    monkeypatch.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    return monkeypatch
