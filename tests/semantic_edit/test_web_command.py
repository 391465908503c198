"""`semantic-edit web` before there is a page."""

import importlib.util
import socket

import pytest

from semantic_edit.cli import main
from semantic_edit.options import ModelChoice


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "gradio" else find(name, *more)
    )
    assert main(["web"]) == 2
    assert "which is not installed: pip install 'diffusers-semantic-edit[web]'" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_refused_before_anything_is_loaded(monkeypatch, capsys):
    pytest.importorskip("gradio", reason="the page needs Gradio")
    monkeypatch.setattr("semantic_edit.serving.studio_of", None)
    assert main(["web", "--model", "/no/such"]) == 2
    assert "/no/such" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(monkeypatch, capsys):
    pytest.importorskip("gradio", reason="the page needs Gradio")
    from semantic_edit import serving

    def taken(studio, server):
        raise OSError(f"Cannot find empty port in range: {server['server_port']}-{server['server_port']}.")

    monkeypatch.setattr(serving, "serve", taken)
    monkeypatch.setattr(serving, "studio_of", lambda *given: None)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        port = busy.getsockname()[1]
        assert main(["web", "--port", str(port)]) == 2
    assert f"cannot listen at 127.0.0.1:{port}: Cannot find empty port" in capsys.readouterr().err


def test_visitors_are_not_told_of_folders(tmp_path):
    pytest.importorskip("gradio", reason="the page needs Gradio")
    from semantic_edit.serving import shown_model

    names = [shown_model(ModelChoice(model)) for model in (None, "someone/model", str(tmp_path / "mine"))]
    assert names == [None, "someone/model", "mine"]
