"""The page's first tab: find, correct, edit, compare, go back, download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from semantic_edit.disk.images import decoded_image
from semantic_edit.disk.telling import refuse_withheld
from semantic_edit.editing.frames import told_frames
from semantic_edit.pipelines import PRESETS
from semantic_edit.pipelines.workbench import CANVAS, TINT, AskedEdit
from semantic_edit.web.running import AT_ONCE, handler, on_model, stop_button, watched
from semantic_edit.web.studio import Studio, Visit

MOST_EDITS = 50
CUT = "Higher values make the mask smaller; moving it asks the model nothing."
REDONE = "The part of the schedule to redo; lower values keep more of the old shape."
RECIPES = "On the command line:\n```shell\n{}\n```\nIn Python:\n```python\n{}```"


def editing_tab(studio: Studio, source: gr.Textbox) -> tuple[gr.ImageEditor, gr.Textbox]:
    """Lay out the tab, for a picture that `source` describes, and return its canvas and its prompt."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            prompt = gr.Textbox(label="What it should show", placeholder="a green pear", elem_id="prompt")
            with gr.Row():
                finding = gr.Button("Find", elem_id="find", min_width=80)
                editing = gr.Button("Edit", variant="primary", elem_id="edit", min_width=80)
                stop = stop_button(studio, "stop")
            said = gr.Markdown("Find shows where the descriptions differ; Edit changes it.", elem_id="said")
            threshold = gr.Slider(0.05, 0.95, 0.5, step=0.01, label="Threshold", info=CUT, elem_id="cut")
            heat = gr.Checkbox(False, label="Show the soft map under the mask", elem_id="heat")
            with gr.Accordion("More settings", open=False):
                preset = gr.Radio(list(PRESETS), value="default", label="Preset")
                usual = PRESETS["default"].num_inference_steps
                steps = gr.Slider(2, 100, usual, step=1, label="Steps", elem_id="steps")
                strength = gr.Slider(0.05, 1, 0.8, step=0.05, label="Strength", info=REDONE)
                seed = gr.Number(0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed")
                negative = gr.Textbox(label="Steer away from")
        with gr.Column(scale=3, min_width=320):
            canvas = gr.ImageEditor(
                label="Where to edit",
                elem_id="canvas",
                canvas_size=CANVAS,
                height=480,
                sources=(),
                transforms=(),
                layers=False,
                brush=gr.Brush(colors=[f"rgba{(*TINT, 0.6)}"], color_mode="fixed", default_size=28),
                eraser=gr.Eraser(default_size=28),
            )
            # only the file of the layer that is brushed: Gradio itself would open all files
            canvas.preprocess = lambda sent: Path(sent.layers[0].path) if sent and sent.layers else None
            canvas.accept_blobs = None  # another way to send layers, which keeps them in memory without limit
    with gr.Column(visible=False) as after:
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                result = gr.ImageSlider(label="Before and after", max_height=480, elem_id="result")
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label="Downloads", file_count="multiple", elem_id="downloads")
        strip = gr.Gallery(label="Edits so far", allow_preview=False, buttons=[], elem_id="edits")
        with gr.Accordion("The same edit elsewhere", open=False):
            recipes = gr.Markdown(elem_id="recipes")

    def find(visit: Visit, seed: int | None, *values: Any) -> list[Any]:
        bench, asked = visit.bench, AskedEdit(dict(zip(typed, values, strict=True)), seed or 0)
        found = bench.find(watched(visit, studio.edits), asked)
        return [canvas_of(visit, heat=True), True, told_frames(found.frames)]

    def edit(visit: Visit, heat: bool, seed: int | None, *values: Any) -> list[Any]:
        bench, asked = visit.bench, AskedEdit(dict(zip(typed, values, strict=True)), seed or 0)
        if len(visit.edits) >= MOST_EDITS:
            raise ValueError(f"There are {MOST_EDITS} edits already; load the page again to begin anew.")
        made = bench.edit(watched(visit, studio.edits), asked)
        refuse_withheld(made.output.nsfw_content_detected, "try other words or another seed")
        saved = {name: visit.save(name, content) for name, content in made.files().items()}
        lines = RECIPES.format(*studio.recipes(asked.given(made.has_mask), asked.seed, made.has_mask))
        shown = [(saved["picture.png"], saved["edited.png"]), list(saved.values()), lines]
        visit.edits = (*visit.edits, (shown, [asked.arguments["source_prompt"], asked.arguments["prompt"]]))
        edits = [(pair[1], prompt) for (pair, *_), (_, prompt) in visit.edits]
        note = told_frames(made.output.frames) + (" The inversion was reused." if made.is_reusing else "")
        return [canvas_of(visit, heat), *shown, edits, gr.update(visible=True), note]

    def go_back(request: gr.Request, event: gr.SelectData) -> list[Any]:
        shown, prompts = studio.visit(str(request.session_hash)).edits[event.index]
        return [*shown, *prompts]

    def read_strokes(visit: Visit, layer: Path | None) -> None:
        if layer is not None:
            visit.bench.brush(decoded_image(layer))

    def redraw(visit: Visit, layer: Path | None, heat: bool, threshold: float) -> Any:
        read_strokes(visit, layer)
        visit.bench.move_threshold(threshold)
        return canvas_of(visit, heat)

    def clear(visit: Visit, heat: bool) -> Any:
        visit.bench.clear()
        return canvas_of(visit, heat)

    typed = {
        "source_prompt": source,
        "prompt": prompt,
        "negative_prompt": negative,
        "mask_threshold": threshold,
        "preset": preset,
        "num_inference_steps": steps,
        "inpaint_strength": strength,
    }
    studio.words |= {name: f"“{component.label}”" for name, component in typed.items()}
    asked, buttons, shown = [seed, *typed.values()], [finding, editing, stop], [result, files, recipes]
    on_model(studio, finding.click, find, asked, [canvas, heat, said], buttons)
    # before the edit waits for its turn, because files that were sent do not stay for long
    read = gr.on([editing.click, prompt.submit], handler(studio, read_strokes), canvas, None, **AT_ONCE)
    on_model(studio, read.then, edit, [heat, *asked], [canvas, *shown, strip, after, said], buttons)
    moved, drawn = [threshold.input, heat.input], [canvas, heat, threshold]
    gr.on(moved, handler(studio, redraw), drawn, canvas, trigger_mode="always_last", **AT_ONCE)
    canvas.clear(handler(studio, clear), heat, canvas, **AT_ONCE)
    strip.select(go_back, None, [*shown, source, prompt], **AT_ONCE)
    preset.input(lambda name: PRESETS[name].num_inference_steps, preset, steps, **AT_ONCE)
    return canvas, prompt


def canvas_of(visit: Visit, heat: bool = False) -> dict[str, Any]:
    """What the canvas shows of a visit's picture."""
    below, above = (visit.save("canvas.png", one) for one in visit.bench.drawn(heat))
    return {"background": below, "layers": [above], "composite": None}
