"""The page's first tab: find, correct, edit, compare, go back, download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from semantic_edit.disk.images import decoded_image, size_of_file
from semantic_edit.editing.strokes import Strokes
from semantic_edit.pipelines import PRESETS
from semantic_edit.pipelines.strips import edit_images, heat_over, soft_map
from semantic_edit.web.running import AT_ONCE, Work, call_watched, handler, notes
from semantic_edit.web.studio import CANVAS, Asked, Done, Studio, Visit
from semantic_edit.web.uploads import hand_over_layers

TINT = (40, 170, 255)
MOST_EDITS = 50
ARGUMENTS = (
    "source_prompt",
    "prompt",
    "negative_prompt",
    "mask_threshold",
    "preset",
    "num_inference_steps",
    "inpaint_strength",
)


def new_canvas(session: Visit) -> dict[str, Any]:
    """A canvas without a mask, for the session's picture."""
    session.strokes = Strokes.none(CANVAS, session.picture)
    return _canvas(session, heat=False)


def editing_tab(studio: Studio, source: gr.Textbox) -> tuple[gr.ImageEditor, gr.Textbox]:
    """Lay out the tab, and return its canvas and its prompt."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            prompt = gr.Textbox(
                label="What it should show", placeholder="a green pear on grass", elem_id="prompt"
            )
            with gr.Row():
                finding = gr.Button("Find", elem_id="find", min_width=80)
                editing = gr.Button("Edit", variant="primary", elem_id="edit", min_width=80)
                stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop", min_width=80)
            said = gr.Markdown("Find shows where the descriptions differ; Edit changes it.", elem_id="said")
            why = "Higher values make the mask smaller; moving it asks the model nothing."
            threshold = gr.Slider(
                0.05, 0.95, 0.5, step=0.01, label="Threshold", info=why, elem_id="threshold"
            )
            heat = gr.Checkbox(False, label="Show the soft map under the mask", elem_id="heat")
            with gr.Accordion("More settings", open=False, elem_id="settings"):
                preset = gr.Radio(list(PRESETS), value="default", label="Preset")
                usual = PRESETS["default"].num_inference_steps
                steps = gr.Slider(2, 100, usual, step=1, label="Steps", elem_id="steps")
                why = "The part of the schedule to redo; lower values keep more of the old shape."
                strength = gr.Slider(0.05, 1, 0.8, step=0.05, label="Strength", info=why)
                seed = gr.Number(0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed")
                negative = gr.Textbox(label="Steer away from")
        with gr.Column(scale=3, min_width=320):
            canvas = gr.ImageEditor(
                label="Where to edit",
                elem_id="canvas",
                sources=(),
                transforms=(),
                layers=False,
                format="png",
                canvas_size=CANVAS,
                height=480,
                placeholder="Choose a picture first.",
                brush=gr.Brush(colors=[f"rgba{(*TINT, 0.6)}"], color_mode="fixed", default_size=28),
                eraser=gr.Eraser(default_size=28),
            )
            hand_over_layers(canvas)
    with gr.Column(visible=False) as after:
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                result = gr.ImageSlider(
                    label="Before and after",
                    elem_id="result",
                    interactive=False,
                    max_height=480,
                    buttons=["fullscreen"],
                )
            with gr.Column(scale=2, min_width=300):
                downloads = gr.File(
                    label="Downloads", file_count="multiple", interactive=False, elem_id="downloads"
                )
        strip = gr.Gallery(label="Edits so far", allow_preview=False, buttons=[], elem_id="edits")
        with gr.Accordion("The same edit elsewhere", open=False, elem_id="elsewhere"):
            command = gr.Code(
                language="shell",
                label="On the command line",
                interactive=False,
                wrap_lines=True,
                lines=2,
                max_lines=6,
                elem_id="command",
            )
            python = gr.Code(language="python", label="In Python", interactive=False, elem_id="python")

    def find(session: Visit, *typed: Any) -> Any:
        began, picture, asked = time.monotonic(), session.picture, _asked(*typed)
        given = {**asked.given(has_mask=False), "generator": _seeded(asked)}
        found = call_watched(session, studio.edits, "locate", picture, **given)
        if picture is session.image:
            session.found, session.asked = found, asked
        session.strokes = Strokes.none(CANVAS, session.picture).over(session.mask())
        return _canvas(session, heat=True), True, notes(began, found.frames)

    def edit(session: Visit, heat: bool, *typed: Any) -> Any:
        began, picture, asked = time.monotonic(), session.picture, _asked(*typed)
        if len(session.edits) >= MOST_EDITS:
            raise ValueError(f"There are {MOST_EDITS} edits already; load the page again to begin anew.")
        own = session.strokes.corrected(session.mask()) if session.strokes else None
        given = {**asked.given(has_mask=own is not None), "mask_image": own, "generator": _seeded(asked)}
        known = session.reusable(asked)
        output = call_watched(session, studio.edits, "__call__", picture, trajectory=known, **given)
        if picture is session.image:
            session.kept = {**session.kept, asked.inversion: output.trajectory}
            if own is None:
                session.found, session.asked = output, asked
                session.strokes = session.strokes.over(session.mask())
        done = Done(asked, own is not None, _files(session, picture, output))
        session.edits = (*session.edits, done)
        edits = [(one.files["edited.png"], one.asked.arguments["prompt"]) for one in session.edits]
        said = notes(began, output.frames) + (" The inversion was reused." if known is not None else "")
        return _canvas(session, heat), *show(done), edits, gr.update(visible=True), said

    def show(done: Done) -> list[Any]:
        recipes = studio.recipes(done.asked.given(done.has_mask), done.asked.seed, done.has_mask)
        pair = (done.files["picture.png"], done.files["edited.png"])
        return [pair, list(done.files.values()), *recipes]

    def redraw(session: Visit, layer: Path | None, heat: bool, threshold: float) -> Any:
        _read_strokes(session, layer)
        if session.found is not None and session.found.contrast is not None:
            session.found = session.found.masks_at(threshold)
            session.strokes = session.strokes.over(session.mask())
        return _canvas(session, heat)

    def clear(session: Visit, heat: bool) -> Any:
        session.strokes = Strokes.none(CANVAS, session.picture).over(session.mask())
        return _canvas(session, heat)

    def go_back(request: gr.Request, event: gr.SelectData) -> Any:
        done = studio.session(str(request.session_hash)).edits[event.index]
        return [*show(done), done.asked.arguments["source_prompt"], done.asked.arguments["prompt"]]

    typed = [source, prompt, negative, threshold, preset, steps, strength, seed]
    buttons, shown = [finding, editing], [result, downloads, command, python]
    Work(find, typed, [canvas, heat, said], buttons, stop).on(studio, finding.click)
    everything = [canvas, *shown, strip, after, said]
    work = Work(edit, [heat, *typed], everything, buttons, stop, _read_strokes, [canvas])
    work.on(studio, editing.click, prompt.submit)
    moved = [threshold.input, heat.input]
    drawn = [canvas, heat, threshold]
    gr.on(moved, handler(studio, redraw), drawn, canvas, trigger_mode="always_last", **AT_ONCE)
    canvas.clear(handler(studio, clear), heat, canvas, **AT_ONCE)
    strip.select(go_back, None, [*shown, source, prompt], **AT_ONCE)
    preset.input(lambda name: PRESETS[name].num_inference_steps, preset, steps, **AT_ONCE)
    return canvas, prompt


def _asked(*typed: Any) -> Asked:
    *values, seed = typed
    given = dict(zip(ARGUMENTS, values, strict=True))
    if not (given["prompt"] or "").strip():
        raise ValueError("`prompt`: a few words are needed, got none.")
    if not given["negative_prompt"]:
        del given["negative_prompt"]
    return Asked({**given, "source_prompt": given["source_prompt"] or ""}, seed or 0)


def _seeded(asked: Asked) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(asked.seed)


def _canvas(session: Visit, heat: bool) -> dict[str, Any]:
    """What the canvas shows: the picture, or the soft map over it, under the mask."""
    under, found, strokes = session.picture, session.found, session.strokes
    if heat and found is not None and found.soft_mask is not None and found.frames:
        under = heat_over(under, soft_map(found.soft_mask.cpu(), under.size, found.frames[0].box))
    below, above = (session.save("canvas.png", one) for one in (strokes.centred(under), strokes.layer(TINT)))
    return {"background": below, "layers": [above], "composite": None}


def _read_strokes(session: Visit, layer: Path | None) -> None:
    """Take note of what was brushed on the canvas."""
    if layer is not None and size_of_file(layer) == CANVAS:
        session.strokes = session.strokes.read(decoded_image(layer).convert("RGBA"))


def _files(session: Visit, picture: Image.Image, output: Any) -> dict[str, str]:
    """An edit's files, by their names."""
    content = {f"{name}.png": image for name, image in edit_images(picture, output).items()}
    content["picture.png"] = picture
    if output.trajectory is not None:
        content["trajectory.safetensors"] = output.trajectory.to_bytes()
    return {name: session.save(name, one) for name, one in content.items()}
