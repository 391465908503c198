"""What the page's buttons do, without a browser: each event is found by its component and called as Gradio calls it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

gr = pytest.importorskip("gradio", reason="the page needs Gradio")


@pytest.fixture(scope="module")
def blocks(studio):
    from semantic_edit.web.page import page

    return page(studio)


class Visitor:
    """Somebody who clicks, and what the page told."""

    def __init__(self, blocks, studio, key):
        self.blocks, self.studio, self.key, self.told = blocks, studio, key, []

    @property
    def here(self):
        return self.studio.visit(self.key)

    def do(self, target, event, **values):
        """Trigger an event of a component, named by its `elem_id` or its text, and all that follows from it."""
        first = next(fn for fn in self.blocks.fns.values() if (target, event) in list(self._triggers(fn)))
        pending, results = [first], []
        while pending:
            fn = pending.pop(0)
            given = [values.get(one.elem_id, getattr(one, "value", None)) for one in fn.inputs]
            wants = (
                [SimpleNamespace(session_hash=self.key)]
                if fn.fn.__code__.co_varnames[:1] == ("request",)
                else []
            )
            results.append(fn.fn(*wants, *given))
            pending += [
                one
                for one in self.blocks.fns.values()
                if one.trigger_after == fn._id and one.trigger_only_on_failure is not True
            ]
        return results

    def _triggers(self, fn):
        for key, event in fn.targets:
            one = self.blocks.blocks.get(key)
            if one is not None:
                yield one.elem_id or getattr(one, "value", None), event


@pytest.fixture
def visitor(blocks, studio, monkeypatch):
    """A function that returns a visitor of a name; `told` of each holds what any of them was told."""
    told = []
    for name in ("Warning", "Info"):
        monkeypatch.setattr(gr, name, lambda text, **how: told.append(text))

    def come(key="one"):
        one = Visitor(blocks, studio, key)
        one.told = told
        return one

    yield come
    for key in list(studio.visits):
        studio.end(key)


ASKED = {"source": "a purple lemon on grass", "prompt": "a green lemon on grass", "steps": 4}


def chosen(one):
    one.do("a purple lemon on grass", "click")
    return one


def test_the_threshold_redraws_the_mask_without_an_evaluation(visitor, evaluations, studio):
    one = chosen(visitor())
    one.do("find", "click", **ASKED)
    found, asked = one.here.bench.found.pixel_mask, len(evaluations)
    assert asked > 0
    one.do("cut", "input", cut=0.7, heat=True)
    assert len(evaluations) == asked
    given = one.here.bench.asked.given(has_mask=False) | {"mask_threshold": 0.7}
    alone = studio.edits.locate(one.here.bench.image, generator=torch.Generator().manual_seed(0), **given)
    torch.testing.assert_close(one.here.bench.found.pixel_mask, alone.pixel_mask, rtol=0, atol=0)
    assert not torch.equal(one.here.bench.found.pixel_mask, found)


def test_two_visitors_have_nothing_in_common_and_leave_nothing(visitor, studio):
    one, other = chosen(visitor("one")), visitor("other")
    one.do("edit", "click", **ASKED)
    (done,) = one.here.edits
    assert other.here.edits == ()
    assert other.here.chosen is None
    assert all(Path(file).is_relative_to(one.here.folder) for file in done[0][1])
    assert one.here.folder != other.here.folder
    chosen(other)
    gone, stop = one.here.folder, one.here.stop
    studio.end("one")
    assert not gone.exists()
    assert stop.is_set()
    assert other.here.folder.exists()


@pytest.mark.parametrize(
    ("target", "values", "reason"),
    [
        ("edit", ASKED, "There is no picture yet: drop one, or choose a still life."),
        ("find", ASKED, "There is no picture yet: drop one, or choose a still life."),
        ("restyle", {"prompts": "x"}, "Nothing is learned yet: press “Learn”, or load a .zip."),
    ],
)
def test_what_is_missing_is_said(visitor, target, values, reason):
    one = visitor()
    one.do(target, "click", **values)
    assert one.told == [reason]


def test_an_error_of_the_pipeline_is_told_in_the_page_s_words(visitor):
    one = chosen(visitor())
    one.do("edit", "click", **{**ASKED, "prompt": "  "})
    assert one.told == ["“What it should show”: a few words are needed, got none."]


@pytest.mark.parametrize("address", ["http://127.0.0.1/a.png", "https://example.com/a.png"])
def test_no_component_fetches_an_address(blocks, address):
    import asyncio

    components = [one for one in blocks.blocks.values() if hasattr(one, "async_move_resource_to_block_cache")]
    assert len(components) > 10
    for one in components:
        with pytest.raises(gr.Error, match="Files are uploaded here, not fetched from an address"):
            asyncio.run(one.async_move_resource_to_block_cache(address))


def test_files_of_the_machine_and_names_of_models_are_refused(blocks, studio, tmp_path):
    """Through the server, as somebody would who writes requests by hand."""
    from gradio.routes import App
    from starlette.testclient import TestClient

    (tmp_path / "mine.txt").write_text("mine")
    client = TestClient(App.create_app(blocks))
    for place in ("/etc/passwd", tmp_path / "mine.txt", Path(__file__), "https://example.com/a.png"):
        assert client.get(f"/gradio_api/file={place}").status_code in (403, 404), place
    served = client.get("/config").json()
    assert not [one for one in served["components"] if "model" in str(one["props"].get("label")).lower()]
    assert all(
        one["api_visibility"] == "private"
        for one in served["dependencies"]
        if one["targets"][0][1] != "unload"
    )
