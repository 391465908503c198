"""The whole page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from semantic_edit.pipelines.visits import Visit
from semantic_edit.pipelines.workbench import picture_in
from semantic_edit.still_life.cases import EditCase, edit_cases
from semantic_edit.web.editing_tab import editing_tab, started
from semantic_edit.web.learning_tab import learning_tab
from semantic_edit.web.running import AT_ONCE, handler
from semantic_edit.web.studio import Studio

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
            with gr.Column(scale=3, min_width=320):
                gr.Markdown("Or a still life to try:")
                with gr.Row(elem_id="samples"):
                    samples = [_sample_button(case, studio.visits.root) for case in cases]
                source = gr.Textbox(label="What it shows", placeholder="a pink apple", elem_id="source")
        with gr.Tabs():
            with gr.Tab("Edit"):
                begun, prompt = editing_tab(studio, source)
            with gr.Tab("Learn and restyle"):
                prompts = learning_tab(studio, source)

        def begin(visit: Visit, image: Image.Image | None) -> list[Any]:
            visit.choose(image)
            return [image and visit.save("picture.png", image), *started(visit)]

        def take(visit: Visit, sent: Any) -> list[Any]:
            begin(visit, None)
            return begin(visit, picture_in(Path(sent["path"]), MOST_PIXELS) if sent else None)

        def choose(case: EditCase, visit: Visit) -> list[Any]:
            return [*begin(visit, case.image), case.source_prompt, *[case.prompt] * len(described)]

        def leave(request: gr.Request) -> None:
            studio.visits.end(str(request.session_hash))

        described = [prompt, *prompts]
        taken = handler(studio, take, otherwise=[None, *started(None)])
        # as it was sent: Gradio itself would open the file
        changed = [upload, *begun]
        gr.on([upload.upload, upload.clear], taken, upload, changed, preprocess=False, **AT_ONCE)
        for sample, case in zip(samples, cases, strict=True):
            chosen = handler(studio, partial(choose, case))
            sample.click(chosen, None, [*changed, source, *described], **AT_ONCE)
        blocks.unload(leave)
    return blocks


def _sample_button(case: EditCase, root: Path) -> gr.Button:
    icon = root / f"{case.source_prompt}.png"
    case.image.save(icon)
    return gr.Button(case.source_prompt, icon=str(icon), min_width=80)
