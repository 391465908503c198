"""Draw every state of the page into build/screenshots, and the README's picture of it: part of `make pictures`.

It serves the page itself, and drives an installed Chromium.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from semantic_edit.loading import quiet_loading
from semantic_edit.options import STILL_LIFE_MODEL

ROOT = Path(__file__).parents[1]
STATES = ROOT / "build" / "screenshots"
README = ROOT / "docs" / "pictures" / "page.jpg"
README_WIDTH = 800


def main() -> None:
    quiet_loading()
    STATES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, sync_playwright() as driver:
        os.environ |= {"GRADIO_TEMP_DIR": root, "GRADIO_ANALYTICS_ENABLED": "False"}
        from semantic_edit.serving import serve, studio_of

        server = {"server_name": "127.0.0.1", "share": False, "prevent_thread_lock": True}
        app = serve(studio_of(STILL_LIFE_MODEL, {}, Path(root)), server)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, width, scheme in (
            ("wide", 1180, "light"),
            ("narrow", 390, "light"),
            ("dark", 1180, "dark"),
        ):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(300_000)
            page.goto(app.local_url)
            visit(
                page,
                lambda state, name=name, page=page: page.screenshot(
                    path=STATES / f"{name}-{state}.png", full_page=True
                ),
            )
            context.close()
        browser.close()
        app.close()
    whole = Image.open(STATES / "wide-3-found.png").convert("RGB")
    small = whole.resize((README_WIDTH, whole.height * README_WIDTH // whole.width), Image.Resampling.LANCZOS)
    small.save(README, quality=88, optimize=True)


def visit(page: Page, draw: Callable[[str], object]) -> None:
    """Do everything once, and draw what is seen."""
    page.wait_for_selector("#samples button")
    settle(page)
    draw("1-start")
    page.locator("#samples button").first.click()
    page.wait_for_function("document.querySelector('#prompt textarea').value != ''")
    settle(page)
    draw("2-chosen")
    work(page, "#find", "#said")
    draw("3-found")
    page.click("#edit")
    page.wait_for_selector("#said .progress-bar", state="attached")
    draw("4-editing")
    idle(page, "#edit", "#said")
    page.get_by_role("button", name="The same edit elsewhere").click()
    settle(page)
    draw("5-edited")
    page.get_by_role("tab", name="Learn and restyle").click()
    page.locator("#learn-steps input[type=number]").fill("10")
    page.locator("#learn-steps input[type=number]").press("Tab")
    page.click("#restyle")
    page.wait_for_selector(".toast-body")
    draw("6-refused")
    work(page, "#learn", "#learned")
    draw("7-learned")
    page.get_by_role("button", name="How much of the picture is kept").click()
    page.locator("#prompts textarea").fill("a green lemon on grass\na purple apple on grass")
    work(page, "#restyle", "#told")
    draw("8-restyled")


def work(page: Page, button: str, said: str) -> None:
    """Press a button, and wait until what it does is done."""
    page.click(button)
    page.wait_for_selector(f"{button}[disabled]")
    idle(page, button, said)


def idle(page: Page, button: str, said: str) -> None:
    page.wait_for_selector(f"{button}:not([disabled])")
    page.wait_for_function(f"document.querySelector('{said}').innerText.includes('Done in')")
    settle(page)


def settle(page: Page) -> None:
    """Wait for what slides and fades."""
    page.wait_for_timeout(2500)


if __name__ == "__main__":
    main()
