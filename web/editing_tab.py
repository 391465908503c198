"""The page's first tab: find, correct, edit, compare, go back, download."""

from __future__ import annotations

from typing import Any

import gradio as gr

from semantic_edit.disk.telling import refuse_withheld
from semantic_edit.editing.frames import told_frames
from semantic_edit.pipelines import PRESETS
from semantic_edit.pipelines.visits import Visit
from semantic_edit.pipelines.workbench import BRUSH, CANVAS, AskedEdit, sent_layer
from semantic_edit.web.running import (
    AT_ONCE,
    RECIPES,
    come_into_view,
    handler,
    labels,
    on_model,
    stop_button,
    watched,
)
from semantic_edit.web.studio import Studio

MOST_EDITS = 50
INVITATION = "Find shows where the descriptions differ; Edit changes it."
CUT = "Higher values make the mask smaller. The model is not asked again."
HEAT = "Yellow is where the model's predictions differ most, then red, then black. The mask is blue."
REDONE = "The part of the schedule to redo; lower values keep more of the old shape."


def editing_tab(studio: Studio, source: gr.Textbox) -> tuple[list[Any], gr.Textbox]:
    """Lay out the tab, for a picture that `source` describes; return what shows [`started`], and the prompt."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            prompt = gr.Textbox(label="What it should show", placeholder="a green pear", elem_id="prompt")
            with gr.Row():
                finding = gr.Button("Find", elem_id="find", min_width=80)
                editing = gr.Button("Edit", variant="primary", elem_id="edit", min_width=80)
                stop = stop_button(studio, "stop")
            said = gr.Markdown(INVITATION, elem_id="said")
            threshold = gr.Slider(0.05, 0.95, 0.5, step=0.01, label="Threshold", info=CUT, elem_id="cut")
            heat = gr.Checkbox(False, label="Show the soft map under the mask", info=HEAT, elem_id="heat")
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
                brush=gr.Brush(colors=[f"rgba{BRUSH}"], color_mode="fixed", default_size=28),
                eraser=gr.Eraser(default_size=28),
            )
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
        lines = RECIPES.format(*studio.edit_recipes(asked.given(made.has_mask), asked.seed, made.has_mask))
        shown = [(saved["picture.png"], saved["edited.png"]), list(saved.values()), lines]
        visit.edits = (*visit.edits, (shown, asked, bench.marks))
        edits = [(pair[1], asked.arguments["prompt"]) for (pair, *_), asked, _ in visit.edits]
        note = told_frames(made.output.frames) + (" The inversion was reused." if made.is_reusing else "")
        return [canvas_of(visit, heat), *shown, edits, gr.update(visible=True), note]

    def go_back(visit: Visit, index: Any, heat: bool) -> list[Any]:
        if index not in range(len(visit.edits)):
            raise ValueError("That edit is not kept any more.")
        shown, asked, visit.bench.marks = visit.edits[index]
        note = f"This is edit {index + 1} again, with its mask, words and settings."
        return [canvas_of(visit, heat), *shown, note, asked.seed, *asked.arguments.values()]

    def pick(request: gr.Request, heat: bool, event: gr.SelectData) -> Any:
        return handler(studio, go_back)(request, event.index, heat)

    def read_strokes(visit: Visit, sent: Any) -> None:
        if (layer := sent_layer(sent)) is not None:
            visit.bench.brush(layer)

    def redraw(visit: Visit, sent: Any, heat: bool, threshold: float) -> Any:
        read_strokes(visit, sent)
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
    buttons, shown, asked = [finding, editing, stop], [result, files, recipes], {"generator": seed, **typed}
    on_model(studio, finding.click, find, asked, [canvas, heat, said], buttons)
    # before the edit waits for its turn, because files that were sent do not stay for long; as they were sent,
    # because Gradio itself would open all of them
    as_sent = {"preprocess": False, **AT_ONCE}
    reading = handler(studio, read_strokes, otherwise=None)
    read = gr.on([editing.click, prompt.submit], reading, canvas, None, **as_sent)
    on_model(studio, read.then, edit, {"heat": heat, **asked}, [canvas, *shown, strip, after, said], buttons)
    moved, redrawing = [threshold.input, heat.input], handler(studio, redraw, labels(typed))
    drawn = {"inputs": [canvas, heat, threshold], "outputs": canvas, "trigger_mode": "always_last"}
    gr.on(moved, redrawing, **drawn, **as_sent)
    canvas.clear(handler(studio, clear), heat, canvas, **AT_ONCE)
    strip.select(pick, heat, [canvas, *shown, said, *asked.values()], **AT_ONCE)
    preset.input(lambda name: PRESETS[name].num_inference_steps, preset, steps, **AT_ONCE)
    come_into_view(result)
    return [canvas, said, after], prompt


def started(visit: Visit | None) -> list[Any]:
    """What is shown when a visit, or nobody, begins with another picture, or with none."""
    canvas = canvas_of(visit) if visit and visit.chosen else None
    return [canvas, INVITATION, gr.update(visible=False)]


def canvas_of(visit: Visit, heat: bool = False) -> dict[str, Any]:
    """What the canvas shows of a visit's picture."""
    below, above = (visit.save("canvas.png", one) for one in visit.bench.drawn(heat))
    return {"background": below, "layers": [above], "composite": None}
