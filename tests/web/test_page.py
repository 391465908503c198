"""The page in a real browser."""

import shlex
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.editing import Trajectory

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def edited_in(done):
    """The file that one of a visit's edits shows as its result."""
    return done[0][0][1]


def recipes_in(visitor):
    """The command and the lines of Python that the page shows for an edit."""
    visitor.page.get_by_role("button", name="The same edit elsewhere").click()
    visitor.page.wait_for_selector("#recipes pre code")
    command, python = visitor.page.locator("#recipes pre code").all_inner_texts()
    return command, python


def test_an_edit_and_its_files_are_those_of_the_command_line_and_of_python(visit, tmp_path, monkeypatch):
    visitor = visit()
    visitor.choose(0)
    visitor.find()
    visitor.edit()
    visitor.wait(lambda: visitor.is_seen("#result"), 10)
    got = visitor.downloads(tmp_path)
    assert set(got) == {"edited.png", "mask.png", "strip.png", "picture.png", "trajectory.safetensors"}
    assert np.array_equal(pixels(got["picture.png"]), np.asarray(visitor.here.bench.image))
    assert Trajectory.load(got["trajectory.safetensors"]).levels == 4
    assert Image.open(got["strip.png"]).size[1] > 256

    command, python = recipes_in(visitor)
    shown = pixels(got["edited.png"])
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(command)[1:], "--save-mask", "again.png"]) == 0
    assert np.array_equal(pixels("edited-again.png"), shown)
    assert np.array_equal(pixels("again.png"), pixels("mask.png"))
    (tmp_path / "edited-again.png").unlink()
    exec(python, {})
    assert np.array_equal(pixels("edited-again.png"), shown)
    assert {url.split("/")[2] for url in visitor.asked if "//" in url} == {visitor.page.url.split("/")[2]}


def test_another_prompt_reuses_the_inversion_and_edits_can_be_gone_back_to(visit, evaluations):
    visitor = visit()
    visitor.choose(0)
    visitor.edit()
    first = visitor.page.locator("#prompt textarea").input_value()
    alone = evaluations.count("unet")
    visitor.page.locator("#prompt textarea").fill("a blue lemon on grass")
    visitor.page.locator("#prompt textarea").press("Enter")
    visitor.wait(lambda: len(visitor.here.edits) == 2 and visitor.is_idle())
    assert "The inversion was reused" in visitor.page.locator("#said").inner_text()
    assert evaluations.count("unet") == 2 * alone - 4
    again = visitor.studio.edits(
        visitor.here.bench.image,
        generator=torch.Generator().manual_seed(0),
        **visitor.here.bench.asked.given(has_mask=False),
    )
    assert np.array_equal(pixels(edited_in(visitor.here.edits[1])), np.asarray(again.images[0]))
    visitor.page.locator("#edits button img").first.click()
    visitor.page.wait_for_function(
        "words => document.querySelector('#prompt textarea').value == words", arg=first
    )


def test_the_threshold_redraws_the_mask_without_the_model(visit, evaluations):
    visitor = visit()
    visitor.choose(1)
    visitor.find()
    before, asked = visitor.here.bench.mask(), len(evaluations)
    slider = visitor.page.locator("#cut input[type=range]")
    slider.focus()
    for _ in range(15):
        slider.press("ArrowRight")
    value = float(slider.input_value())
    assert value == pytest.approx(0.65)
    assert len(evaluations) == asked
    given = visitor.here.bench.asked.given(has_mask=False) | {"mask_threshold": value}
    expected = visitor.studio.edits.locate(
        visitor.here.bench.image, generator=torch.Generator().manual_seed(0), **given
    )
    asked = len(evaluations)
    visitor.wait(lambda: torch.equal(visitor.here.bench.found.pixel_mask, expected.pixel_mask))
    assert not np.array_equal(visitor.here.bench.mask(), before)
    assert len(evaluations) == asked


def drag(visitor, tool, start, end):
    """Draw with a tool from one place of the canvas to another, both in fractions of the picture."""
    page = visitor.page
    page.get_by_role("button", name=tool, exact=True).click()
    canvas = page.locator("#canvas canvas").last.bounding_box()
    zoom = float(page.locator("#canvas").get_by_text("%").first.inner_text().rstrip("%")) / 100
    middle = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
    places = [
        tuple(m + 640 * zoom * (one - 0.5) for m, one in zip(middle, at, strict=True)) for at in (start, end)
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=12)
    page.mouse.up()
    page.wait_for_timeout(500)


def test_the_brush_adds_and_the_eraser_takes_away(visit, tmp_path):
    visitor = visit()
    visitor.choose(0)
    visitor.find()
    visitor.page.wait_for_timeout(1000)
    found = np.asarray(visitor.here.bench.mask())
    assert found[10:20, 20:100].max() == 0
    row, column = np.argwhere(found > 250).mean(0) / 128
    drag(visitor, "Brush", (0.2, 0.12), (0.8, 0.12))
    drag(visitor, "Erase", (column - 0.1, row), (column + 0.1, row))
    visitor.edit()
    mask = pixels(visitor.downloads(tmp_path)["mask.png"])
    assert mask[int(0.12 * 128), 30:98].min() == 255
    assert mask[int(row * 128), int(column * 128)] == 0
    untouched = mask[int(0.12 * 128) + 8 : int(row * 128) - 8]
    assert np.array_equal(untouched, found[int(0.12 * 128) + 8 : int(row * 128) - 8])
    command, python = recipes_in(visitor)
    assert "--mask=mask.png" in command
    assert 'mask_image=Image.open("mask.png")' in python


def test_a_stroke_is_seen_as_one_where_it_crosses_the_mask(visit):
    visitor = visit()
    visitor.choose(0)
    visitor.find()
    visitor.page.wait_for_timeout(1000)
    bench = visitor.here.bench
    before = np.asarray(bench.mask())
    row, column = np.argwhere(before > 250).mean(0) / 128
    drag(visitor, "Brush", (0.05, row), (column, row))
    slider = visitor.page.locator("#cut input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    visitor.wait(lambda: bool(bench.strokes), 20)
    added = np.asarray(bench.strokes.added.resize((128, 128)))
    stroke = np.s_[int(row * 128), 10 : int(column * 128)]
    assert added[stroke].min() == 255
    assert before[stroke].max() == 255


def test_stop_ends_an_edit_within_a_step(visit, evaluations):
    visitor = visit()
    visitor.choose(0, steps=100)
    visitor.page.click("#edit")
    visitor.wait(lambda: evaluations.count("unet") > 5)
    assert "invert" in visitor.page.locator("#said").inner_text()
    visitor.page.click("#stop")
    visitor.wait(lambda: visitor.here.stop.is_set())
    at_stop = evaluations.count("unet")
    visitor.wait(visitor.is_idle)
    assert evaluations.count("unet") <= at_stop + 1
    assert visitor.error() == "Stopped. Nothing has changed."
    assert visitor.here.edits == ()


def upload(visitor, path):
    visitor.page.locator("#picture input[type=file]").set_input_files(path)
    visitor.page.wait_for_selector(".toast-body")
    return visitor.error()


def test_files_that_are_no_pictures_get_the_command_lines_sentences(visit, tmp_path, capsys):
    visitor = visit()
    (tmp_path / "words.png").write_text("no picture")
    assert main(["edit", str(tmp_path / "words.png"), "--prompt", "x", "-o", str(tmp_path / "out.png")]) == 2
    reason = capsys.readouterr().err.strip().partition("words.png ")[2]
    assert reason == "is not a picture in a format that Pillow reads"
    assert upload(visitor, tmp_path / "words.png") == f"words.png {reason}"


def test_pictures_of_too_many_pixels_are_refused(visit, tmp_path):
    Image.new("1", (8000, 8000)).save(tmp_path / "large.png")
    said = upload(visit(), tmp_path / "large.png")
    assert said == "large.png has 8000 x 8000 pixels, and 40 million are allowed; shrink it first"


def test_files_of_too_many_bytes_are_refused(visit, tmp_path):
    (tmp_path / "heavy.png").write_bytes(bytes(33 * 2**20))
    assert "size" in upload(visit(), tmp_path / "heavy.png").lower()


def test_what_is_missing_is_said(visit):
    visitor = visit()
    visitor.page.click("#edit")
    visitor.page.wait_for_selector(".toast-body")
    assert visitor.error() == "There is no picture yet: drop one, or choose a still life."


def test_two_visitors_at_once_get_what_they_would_get_alone_and_leave_nothing(visit, studio):
    visitors = [visit(), visit()]
    for index, visitor in enumerate(visitors):
        visitor.choose(2 * index, steps=10)
    for visitor in visitors:
        visitor.page.click("#edit")
    visitors[1].page.wait_for_selector("#said >> text=/queue: \\d/")
    for visitor in visitors:
        visitor.wait(lambda visitor=visitor: len(visitor.here.edits) == 1 and visitor.is_idle())
    for visitor in visitors:
        (done,) = visitor.here.edits
        alone = studio.edits(
            visitor.here.bench.image,
            generator=torch.Generator().manual_seed(0),
            **visitor.here.bench.asked.given(has_mask=False),
        )
        assert np.array_equal(pixels(edited_in(done)), np.asarray(alone.images[0]))
        assert visitor.page.locator("#edits button img").count() == 1
    first, second = (visitor.here.folder for visitor in visitors)
    asked = [url for url in visitors[0].asked if "file=" in url]
    assert any(first.name in url for url in asked)
    assert not any(second.name in url for url in asked)
    key, page = visitors[0].key, visitors[0].page
    page.close()
    visitors[1].wait(lambda: key not in studio.visits.current)
    assert not first.exists()
    assert second.exists()


def test_learn_keep_load_and_restyle(visit, tmp_path):
    visitor = visit()
    visitor.choose(0)
    page = visitor.page
    page.get_by_role("tab", name="Learn and restyle").click()
    page.locator("#learn-steps input[type=number]").fill("4")
    page.locator("#learn-steps input[type=number]").press("Tab")
    page.click("#learn")
    visitor.wait(lambda: "dB" in page.locator("#learned").inner_text())
    page.locator("#prompts textarea").fill("a blue lemon on grass")
    page.click("#restyle")
    page.wait_for_selector("#words img")
    confined = visitor.pixels("#restyled img >> nth=1")
    page.click("#confined input")
    page.click("#restyle")
    visitor.wait(lambda: (visitor.pixels("#restyled img >> nth=1") != confined).any())
    with page.expect_download() as started:
        page.click("#save-network")
    started.value.save_as(tmp_path / "learned.zip")
    with zipfile.ZipFile(tmp_path / "learned.zip") as packed:
        assert set(packed.namelist()) == {"README.md", "config.json", "diffusion_pytorch_model.safetensors"}
        packed.extract("config.json", tmp_path)

    other = visit()
    other.page.get_by_role("tab", name="Learn and restyle").click()
    shutil.make_archive(str(tmp_path / "half"), "zip", tmp_path, "config.json")
    other.page.locator("#load-network input[type=file], input[type=file][accept*=zip]").set_input_files(
        tmp_path / "half.zip"
    )
    other.page.wait_for_selector(".toast-body")
    assert "half.zip must hold config.json, diffusion_pytorch_model.safetensors" in other.error()
    other.page.locator("#load-network input[type=file], input[type=file][accept*=zip]").set_input_files(
        tmp_path / "learned.zip"
    )
    other.wait(lambda: "Loaded:" in other.page.locator("#learned").inner_text())
    other.page.locator("#prompts textarea").fill("a blue lemon on grass\na red lemon on grass")
    other.page.click("#restyle")
    other.page.wait_for_selector("#words img")
    assert other.page.locator("#restyled img").count() == 3
    assert other.page.locator("#words img").count() == 3
    labels = [other.page.locator("#words img").nth(one).get_attribute("alt") for one in range(3)]
    assert labels[2] == "Places of the words: a red lemon on grass"
    other.page.set_viewport_size({"width": 390, "height": 844})
    for picture in other.page.locator("#restyled img").all():
        box = picture.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
        assert box["width"] == pytest.approx(box["height"], abs=1)


def test_it_fits_a_phone_in_the_dark_and_everything_has_a_name(visit):
    visitor = visit(color_scheme="dark")
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 844})
    visitor.choose(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, dark[dark.index("(") + 1 : -1].split(",")[:3])) < 150
    for label in ("What it shows", "What it should show", "Seed", "Steer away from"):
        assert page.get_by_label(label, exact=True).count() == 1, label
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, textarea')].filter(one => one.offsetParent
        && !(one.innerText || one.ariaLabel || one.title || one.labels?.length || one.placeholder
             || one.querySelector('img[alt]'))).map(one => one.outerHTML)"""
    )
    assert unnamed == []
