"""The whole page, and the server behind it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like
from PIL import Image

from semantic_edit.pipelines.workbench import Workbench, picture_in
from semantic_edit.still_life.cases import EditCase, edit_cases
from semantic_edit.web.editing_tab import canvas_of, editing_tab
from semantic_edit.web.learning_tab import learning_tab
from semantic_edit.web.running import AT_ONCE, handler, show_warnings_on_page
from semantic_edit.web.studio import Studio, Visit

MOST_BYTES = 32 * 2**20
MOST_PIXELS = 40_000_000
SAMPLES = 5
MOST_WAITING = 50
INTRODUCTION = """# Semantic edit
Say what a picture shows and what it should show instead; only the part that differs is redone. Model: {model}."""


def page(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    cases = edit_cases(SAMPLES, seed=1, kinds=("colour", "object"), objects=1)
    with gr.Blocks(title="Semantic edit", analytics_enabled=False) as blocks:
        studio.words |= {
            "image": "the picture",
            "mask_image": "the mask",
            "mapping_network": "the learned picture",
        }
        gr.Markdown(INTRODUCTION.format(model=studio.model))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                how, sources = "Picture: drop, paste or choose", ["upload", "clipboard"]
                upload = gr.Image(label=how, sources=sources, height=280, elem_id="picture", buttons=[])
                # the file as it was sent: Gradio itself would open it
                upload.preprocess = lambda sent: Path(sent.path) if sent and sent.path else None
            with gr.Column(scale=3, min_width=320):
                gr.Markdown("Or a still life to try:")
                with gr.Row(elem_id="samples"):
                    samples = [
                        _sample_button(case, studio.root / f"{index}.png") for index, case in enumerate(cases)
                    ]
                source = gr.Textbox(
                    label="What it shows", placeholder="a pink apple on grass", elem_id="source"
                )
        with gr.Tabs():
            with gr.Tab("Edit"):
                canvas, prompt = editing_tab(studio, source)
            with gr.Tab("Learn and restyle"):
                learning_tab(studio, source)

        def begin(visit: Visit, image: Image.Image) -> list[Any]:
            visit.chosen = Workbench(image)
            return [visit.save("picture.png", image), canvas_of(visit)]

        def take(visit: Visit, path: Path | None) -> list[Any]:
            visit.chosen = None
            return [None, None] if path is None else begin(visit, picture_in(path, MOST_PIXELS))

        def choose(case: EditCase, visit: Visit) -> list[Any]:
            return [*begin(visit, case.image), case.source_prompt, case.prompt]

        def leave(request: gr.Request) -> None:
            studio.end(str(request.session_hash))

        taken = handler(studio, take, otherwise=[None, None])
        gr.on([upload.upload, upload.clear], taken, upload, [upload, canvas], **AT_ONCE)
        for sample, case in zip(samples, cases, strict=True):
            chosen = handler(studio, partial(choose, case))
            sample.click(chosen, None, [upload, canvas, source, prompt], **AT_ONCE)
        blocks.unload(leave)
    for component in blocks.blocks.values():
        _take_files_alone(component)
    return blocks


def serve(studio: Studio, server: Mapping[str, Any]) -> gr.Blocks:
    """Show the page, and return it with the addresses at which it is.

    Args:
        studio: What the page works with.
        server: Arguments of Gradio's `launch`, such as `server_name`.

    Raises:
        OSError: If the port is taken, or the host is not this machine's.
    """
    blocks = page(studio)
    show_warnings_on_page(studio)
    Thread(target=studio.sweep_for_ever, daemon=True).start()
    nothing_else = {"footer_links": [], "enable_monitoring": False, "run_history": False, "mcp_server": False}
    looks = {
        "theme": gr.themes.Default(),
        "css_paths": Path(__file__).with_name("page.css"),
        "ssr_mode": False,
    }
    blocks.queue(max_size=MOST_WAITING)
    blocks.launch(max_file_size=MOST_BYTES, quiet=True, **looks, **nothing_else, **server)
    return blocks


def _take_files_alone(component: Any) -> None:
    """Let a component refuse an address in place of a file, which Gradio would otherwise download."""
    move = component.async_move_resource_to_block_cache

    async def checked(place: Any) -> str | None:
        if is_http_url_like(str(place)):
            raise gr.Error("Files are uploaded here, not fetched from an address.", print_exception=False)
        return await move(place)

    component.async_move_resource_to_block_cache = checked


def _sample_button(case: EditCase, icon: Path) -> gr.Button:
    case.image.save(icon)
    return gr.Button(case.source_prompt, icon=str(icon), min_width=80)
