"""A page of the still-life model, served once, and browsers that visit it."""

import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("gradio", reason="the page needs Gradio")
    root = tmp_path_factory.mktemp("page")
    os.environ |= {"GRADIO_TEMP_DIR": str(root), "GRADIO_ANALYTICS_ENABLED": "False"}
    from semantic_edit.options import STILL_LIFE_MODEL
    from semantic_edit.serving import studio_of

    return studio_of(STILL_LIFE_MODEL, {}, root)


@pytest.fixture(scope="session")
def address(studio: Any) -> Iterator[str]:
    from semantic_edit.serving import serve

    with warnings.catch_warnings():
        blocks = serve(studio, {"server_name": "127.0.0.1", "share": False, "prevent_thread_lock": True})
        yield blocks.local_url
        blocks.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api", reason="there is no Playwright here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """A browser on the page, with what one does there."""

    def __init__(self, context: Any, address: str, studio: Any) -> None:
        self.page, self.studio, self.asked = context.new_page(), studio, []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.set_default_timeout(120_000)
        self.page.goto(address)
        self.page.wait_for_selector("#samples")

    def choose(self, index: int, steps: int = 5) -> None:
        """Take a still life, and few steps."""
        before = set(self.studio.visits.current)
        self.page.locator("#samples button").nth(index).click()
        self.page.wait_for_selector("#canvas canvas")
        self.page.wait_for_function("document.querySelector('#prompt textarea').value != ''")
        (self.key,) = set(self.studio.visits.current) - before
        self.page.get_by_role("button", name="More settings").click()
        self.page.locator("#steps input[type=number]").fill(str(steps))
        self.page.locator("#steps input[type=number]").press("Tab")

    @property
    def here(self) -> Any:
        return self.studio.visits.current[self.key]

    def find(self) -> None:
        self.page.click("#find")
        self.wait(lambda: self.here.bench.found is not None and self.is_idle())

    def edit(self) -> None:
        """Edit, and wait until the result is there."""
        before = len(self.here.edits)
        self.page.click("#edit")
        self.wait(lambda: len(self.here.edits) > before and self.is_idle())
        self.page.wait_for_selector("#result img")

    def is_idle(self) -> bool:
        return self.page.locator("#stop").is_disabled() and self.page.locator("#edit").is_enabled()

    def pixels(self, selector: str) -> Any:
        """A picture that the page shows, as an array."""
        source = self.page.locator(selector).get_attribute("src")
        return np.asarray(Image.open(io.BytesIO(self.page.request.get(source).body())).convert("RGB"))

    def is_seen(self, selector: str) -> bool:
        """Whether the whole of something is in the window, or fills it."""
        box, window = self.page.locator(selector).bounding_box(), self.page.viewport_size
        return bool(0 <= box["y"] <= window["height"] - min(box["height"], window["height"]))

    def wait(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        for _ in range(int(seconds * 10)):
            if condition():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("it took too long")

    def error(self) -> str:
        """The sentence in the page's latest message."""
        return self.page.locator(".toast-body").last.inner_text().splitlines()[-1]

    def downloads(self, folder: Path) -> dict[str, Path]:
        """Every download of the shown edit."""
        got = {}
        for link in self.page.locator("#downloads a").all():
            with self.page.expect_download() as started:
                link.click()
            name = started.value.suggested_filename
            started.value.save_as(folder / name)
            got[name] = folder / name
        return got


@pytest.fixture
def visit(browser: Any, address: str, studio: Any) -> Iterator[Callable[..., Visitor]]:
    """Opens the page in a context of its own."""
    contexts = []

    def open_page(**options: Any) -> Visitor:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 1000}, **options))
        return Visitor(contexts[-1], address, studio)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def evaluations(studio: Any) -> Iterator[list[str]]:
    """The networks that are evaluated, in order."""
    seen: list[str] = []
    pipe = studio.edits
    networks = {"unet": pipe.unet, "text_encoder": pipe.text_encoder, "encoder": pipe.vae.encoder}
    hooks = [
        network.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, network in networks.items()
    ]
    yield seen
    for hook in hooks:
        hook.remove()
