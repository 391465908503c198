"""The whole page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like
from PIL import Image

from semantic_edit.pipelines.workbench import Workbench, picture_in
from semantic_edit.still_life.cases import EditCase, edit_cases
from semantic_edit.web.editing_tab import canvas_of, editing_tab
from semantic_edit.web.learning_tab import learning_tab
from semantic_edit.web.running import AT_ONCE, handler
from semantic_edit.web.studio import Studio, Visit

MOST_PIXELS = 40_000_000
CSS = Path(__file__).with_name("page.css")
SAMPLES = 5
INTRODUCTION = """# Semantic edit
Say what a picture shows and what it should show instead; only the part that differs is redone. Model: {model}."""


def page(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    cases = edit_cases(SAMPLES, seed=1, kinds=("colour", "object"), objects=1)
    with gr.Blocks(title="Semantic edit", analytics_enabled=False) as blocks:
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
                    samples = [_sample_button(case, studio.root) for case in cases]
                source = gr.Textbox(label="What it shows", placeholder="a pink apple", elem_id="source")
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


def _take_files_alone(component: Any) -> None:
    """Let a component refuse an address in place of a file, which Gradio would otherwise download."""
    move = component.async_move_resource_to_block_cache

    async def checked(place: Any) -> str | None:
        if is_http_url_like(str(place)):
            raise gr.Error("Files are uploaded here, not fetched from an address.", print_exception=False)
        return await move(place)

    component.async_move_resource_to_block_cache = checked


def _sample_button(case: EditCase, root: Path) -> gr.Button:
    icon = root / f"{case.source_prompt}.png"
    case.image.save(icon)
    return gr.Button(case.source_prompt, icon=str(icon), min_width=80)
