"""What the page's buttons do, without a browser: each event is found by its component and called as Gradio calls it."""

import asyncio
import os
import time
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

gr = pytest.importorskip("gradio", reason="the page needs Gradio")


@pytest.fixture(scope="module")
def blocks(studio):
    from semantic_edit.guarding import guarded
    from semantic_edit.web.page import page

    return guarded(page(studio), studio.visits.root)


class Visitor:
    """Somebody who clicks, and what the page told."""

    def __init__(self, blocks, studio, key):
        self.blocks, self.studio, self.key, self.told = blocks, studio, key, []

    @property
    def here(self):
        return self.studio.visits.of(self.key)

    def do(self, target, event, **values):
        """Trigger an event of a component, named by its `elem_id` or its text, and all that follows from it."""
        first = next(
            fn for fn in self.blocks.fns.values() if fn.fn and (target, event) in list(self._triggers(fn))
        )
        pending, results = [first], []
        while pending:
            fn = pending.pop(0)
            given = [values.get(one.elem_id, getattr(one, "value", None)) for one in fn.inputs]
            named = fn.fn.__code__.co_varnames[: fn.fn.__code__.co_argcount]
            wants = [SimpleNamespace(session_hash=self.key)] if named[:1] == ("request",) else []
            picked = [SimpleNamespace(index=values["index"])] if named[-1:] == ("event",) else []
            results.append(fn.fn(*wants, *given, *picked))
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
    for key in list(studio.visits.current):
        studio.visits.end(key)


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
    studio.visits.end("one")
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


def files_taken(blocks):
    """Each event that takes a file, with the place of that input and how a browser wraps its files."""
    wrapped = {
        gr.Image: lambda file: file,
        gr.UploadButton: lambda file: file,
        gr.ImageEditor: lambda file: {"background": file, "layers": [file], "composite": None},
    }
    for event in blocks.fns.values():
        for place, component in enumerate(event.inputs):
            if type(component) in wrapped:
                yield event, place, wrapped[type(component)]


def sent_to(blocks, event, place, value):
    """What Gradio does with an event's inputs before its function is called."""
    inputs = [getattr(one, "value", None) for one in event.inputs]
    inputs[place] = value
    return asyncio.run(blocks.preprocess_data(event, inputs, None))


@pytest.mark.parametrize("marks", [{}, {"meta": {"_type": "gradio.FileData"}}], ids=["plain", "marked"])
def test_only_uploaded_files_are_taken(blocks, studio, tmp_path, marks):
    root = studio.visits.root
    (tmp_path / "mine.png").write_bytes(b"mine")
    odd = root / tmp_path.name
    odd.mkdir()
    (odd / "link.png").symlink_to(tmp_path / "mine.png")
    os.mkfifo(odd / "pipe.png")
    uploaded = root / ("0" * 64) / "sent.png"
    uploaded.parent.mkdir(exist_ok=True)
    uploaded.write_bytes(b"sent")
    events = list(files_taken(blocks))
    assert {event.targets[0][1] for event, *_ in events} >= {"upload", "click", "input"}
    others = [
        tmp_path / "mine.png",
        odd / "link.png",
        odd / "pipe.png",
        root,
        root / "../x",
        "/etc/passwd",
        "x\0",
    ]
    for event, place, wrap in events:
        for path in [
            *map(str, others),
            "http://127.0.0.1/a.png",
            "https://example.com/a.png",
            5,
            ["/etc/passwd"],
        ]:
            with pytest.raises(gr.Error, match="Files are uploaded here, not named by a path or an address"):
                sent_to(blocks, event, place, wrap({"path": path, **marks}))
        if marks:
            taken = sent_to(blocks, event, place, wrap({"path": str(uploaded), **marks}))
            assert str(uploaded) in str(taken[place])


def test_no_event_lets_gradio_open_a_file(blocks):
    """An update of a component makes a new one, so that nothing that is changed in a component stays."""
    assert [event for event, *_ in files_taken(blocks) if event.preprocess] == []
    assert not callable(gr.ImageEditor.accept_blobs)


def test_a_request_by_hand_reads_no_file_of_the_machine(address, tmp_path, studio):
    import httpx

    Image.new("RGB", (8, 8), "red").save(tmp_path / "mine.png")
    with httpx.Client(base_url=address, timeout=60) as client:
        served = client.get("/config").json()
        taken = next(one for one in served["dependencies"] if one["targets"][0][1] == "upload")
        asked = {
            "data": [{"path": str(tmp_path / "mine.png")}],
            "fn_index": taken["id"],
            "session_hash": "by-hand",
        }
        assert client.post("/gradio_api/queue/join", json=asked).status_code == 200
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "by-hand"}) as told:
            lines = [line for line in told.iter_lines() if "process_completed" in line]
    assert "not named by a path" in lines[0]
    assert '"success":false' in lines[0]


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


def test_a_failure_leaves_the_next_edit_as_it_would_have_been(visitor):
    """Each event gets what Gradio gives it: files as they were sent."""
    one = chosen(visitor())
    layer = one.here.save("layer.png", one.here.bench.drawn(heat=False)[1])
    sent = {"background": None, "layers": [{"path": layer}], "composite": None}
    one.do("edit", "click", **{**ASKED, "prompt": ""}, canvas=sent)
    results = one.do("edit", "click", **ASKED, canvas=sent)
    assert one.told == ["“What it should show”: a few words are needed, got none."]
    assert results[0] is None  # an event without outputs shows nothing, not even that it was skipped
    assert len(one.here.edits) == 1


def test_a_stroke_across_the_mask_stays_when_the_threshold_moves(visitor):
    one = chosen(visitor())
    one.do("find", "click", **ASKED)
    one.do("cut", "input", cut=0.3)
    bench = one.here.bench
    layer, before = bench.drawn(heat=False)[1], np.asarray(bench.mask())
    row, column = (int(place) for place in np.argwhere(before > 250).mean(0) * 640 // 128)
    ImageDraw.Draw(layer).rectangle((0, row - 20, column, row + 20), fill=(40, 170, 255, 217))
    path = one.here.save("layer.png", layer)
    one.do("cut", "input", cut=0.9, canvas={"layers": [{"path": path}]})
    stroke = np.s_[row // 5 - 2 : row // 5 + 2, : column // 5 - 2]
    assert (before[stroke] > 250).any()
    assert np.asarray(bench.mask())[stroke].min() == 0
    assert np.asarray(bench.strokes.corrected(bench.mask()))[stroke].min() == 255


def test_an_edit_comes_back_with_its_mask_words_and_settings(visitor):
    one = chosen(visitor())
    one.do("edit", "click", **ASKED)
    mask = one.here.bench.mask()
    one.do("edit", "click", **{**ASKED, "prompt": "a blue ball on grass", "cut": 0.8})
    assert not np.array_equal(one.here.bench.mask(), mask)
    ((canvas, *shown, note, seed, source, prompt, _, threshold, _, steps, _),) = one.do(
        "edits", "select", index=0
    )
    assert np.array_equal(one.here.bench.mask(), mask)
    assert Path(canvas["layers"][0]).exists()
    assert shown[0] == one.here.edits[0][0][0]
    assert note == "This is edit 1 again, with its mask, words and settings."
    assert (seed, source, prompt, threshold, steps) == (0, ASKED["source"], ASKED["prompt"], 0.5, 4)


@pytest.mark.parametrize("index", [1, -1, 10**9, None, "0", [0]])
def test_an_edit_that_is_not_there_is_told(visitor, index):
    one = chosen(visitor())
    one.do("edit", "click", **ASKED)
    one.do("edits", "select", index=index)
    assert one.told == ["That edit is not kept any more."]


def test_another_picture_puts_the_edits_before_away(visitor):
    one = chosen(visitor())
    one.do("edit", "click", **ASKED)
    ((_, _, said, after, *words),) = one.do("a red pear on grass", "click")
    assert one.here.edits == ()
    assert after == gr.update(visible=False)
    assert said == "Find shows where the descriptions differ; Edit changes it."
    source, prompt, prompts = words
    assert source == "a red pear on grass"
    assert prompt == prompts != source


def test_a_text_that_is_too_long_is_refused(visitor, evaluations):
    one = chosen(visitor())
    for values in ({"prompt": "x" * 2001}, {"source": "x" * 2_000_000}):
        one.do("edit", "click", **{**ASKED, **values})
    one.do("learn", "click", source="x" * 2001)
    one.do("restyle", "click", prompts="x\n" * 1001)
    assert one.told == [
        "A text has 2,001 letters, and 2,000 are allowed.",
        "A text has 2,000,000 letters, and 2,000 are allowed.",
        "A text has 2,001 letters, and 2,000 are allowed.",
        "A text has 2,002 letters, and 2,000 are allowed.",
    ]
    assert evaluations == []


def test_made_up_visits_end_no_visit_that_is_used(visitor, studio, monkeypatch):
    from semantic_edit.pipelines import visits

    one = chosen(visitor("one"))
    for number in range(150):
        visitor(f"made-up {number}").do("stop", "click")
    assert one.here.chosen is not None
    assert len(studio.visits.current) == visits.MOST_VISITS
    monkeypatch.setattr(visits, "MOST_VISITS", 3)
    for key in list(studio.visits.current)[1:]:
        studio.visits.end(key)
    chosen(visitor("two"))
    chosen(visitor("three"))
    visitor("four").do("stop", "click")
    assert one.told == ["There are too many visitors at present; please try again in half an hour."]
    studio.visits.current["two"].used = time.monotonic() - visits.SECONDS_UNUSED - 1
    gone = studio.visits.current["two"].folder
    chosen(visitor("four"))
    assert list(studio.visits.current) == ["one", "three", "four"]
    assert not gone.exists()


@pytest.mark.parametrize("lines", [0, 9])
def test_too_many_prompts_are_refused(visitor, lines):
    one = visitor()
    one.here.network = object()
    one.do("restyle", "click", prompts="a pear\n\n" * lines)
    assert one.told == [f"“Prompts, one on each line”: 1 to 8 lines with words are needed, got {lines}."]


def test_narrow_pictures_are_refused(visitor):
    one = visitor()
    sent = one.here.save("thin.png", Image.new("RGB", (1, 30000)))
    (shown,) = one.do("picture", "upload", picture={"path": sent})
    assert one.told == [
        "thin.png has 1 x 30000 pixels, and one side may be at most 32 times as long as the other; crop it first"
    ]
    assert shown[:2] == [None, None]
    assert one.here.chosen is None


def test_what_is_learned_says_nothing_of_the_machine_and_is_told_in_the_tab_s_words(visitor):
    from semantic_edit.web.running import sentence

    one = chosen(visitor())
    one.do("learn", "click", **{"source": ASKED["source"], "learn-steps": 2})
    assert one.told == []
    assert one.here.network.config.base_model == ""
    one.do("learn", "click", **{"source": ASKED["source"], "learn-steps": 0})
    assert "“Steps to learn with”" in one.told.pop()
    with zipfile.ZipFile(next(one.here.folder.rglob("learned.zip"))) as packed:
        whole = b"".join(packed.read(name) for name in packed.namelist())
    assert str(Path(__file__).parents[2]).encode() not in whole
    long = "a green lemon on grass" + " in the sun" * 40
    with warnings.catch_warnings(record=True) as warned:
        (_, (restyled, places, picture, recipes, *_), _) = one.do(
            "restyle", "click", prompts=long, confined=False
        )
    assert "“Prompts, one on each line”" in sentence(warned[0].message)
    assert "semantic-edit restyle --mapping=learned" in recipes
    assert Image.open(picture["value"]).size == one.here.pictured.size
    assert [caption for _, caption in restyled] == [
        f"As learned: {ASKED['source']}",
        long,
    ]
    assert [caption for _, caption in places] == [
        f"Places of the words: {words}" for words in (ASKED["source"], long)
    ]
    damaged = one.here.save("lemon.zip", b"no zip")
    one.do("load-network", "upload", **{"load-network": {"path": damaged}})
    assert one.told == ["lemon.zip is not a zip; pack the folder of a mapping network."]
