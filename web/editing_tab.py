"""The page's first tab: find, correct, edit, compare, go back, download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from semantic_edit.disk.images import decoded_image, size_of_file
from semantic_edit.editing.origins import mask_as_image
from semantic_edit.editing.strokes import Strokes
from semantic_edit.pipelines import PRESETS
from semantic_edit.pipelines.strips import edit_strip, heat_over, soft_map
from semantic_edit.web.recipes import Asked, command_line, python_lines
from semantic_edit.web.running import AT_ONCE, Work, call_watched, handler, notes
from semantic_edit.web.studio import Done, Session, Studio
from semantic_edit.web.uploads import Canvas

TINT = (40, 170, 255)
CANVAS_SIDE = 640
MOST_EDITS = 50


def new_canvas(session: Session) -> dict[str, Any]:
    """A canvas without a mask, for the session's picture."""
    picture = _picture(session)
    scale = CANVAS_SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    session.strokes = Strokes.none((width, height))
    return _canvas(session, heat=False)


def editing_tab(studio: Studio, source: gr.Textbox) -> tuple[Canvas, gr.Textbox]:
    """Lay out the tab, and return its canvas and its prompt."""
    prompt = gr.Textbox(label="What it should show", placeholder="a green pear on grass", elem_id="prompt")
    with gr.Row():
        finding = gr.Button("Find", elem_id="find")
        editing = gr.Button("Edit", variant="primary", elem_id="edit")
        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop")
    said = gr.Markdown("", elem_id="said")
    canvas = Canvas(
        label="Where to edit: brush to add, erase to take away",
        elem_id="canvas",
        sources=(),
        transforms=(),
        layers=False,
        format="png",
        brush=gr.Brush(colors=[f"rgba{(*TINT, 0.6)}"], color_mode="fixed", default_size=28),
        eraser=gr.Eraser(default_size=28),
    )
    threshold = gr.Slider(
        0.05,
        0.95,
        0.5,
        step=0.01,
        label="Threshold",
        info="Higher values make the mask smaller.",
        elem_id="threshold",
    )
    heat = gr.Checkbox(False, label="Show the soft map under the mask", elem_id="heat")
    with gr.Accordion("More settings", open=False):
        preset = gr.Radio(list(PRESETS), value="default", label="Preset")
        steps = gr.Slider(
            1, 100, PRESETS["default"].num_inference_steps, step=1, label="Steps", elem_id="steps"
        )
        strength = gr.Slider(
            0.05, 1, 0.8, step=0.05, label="Strength", info="Lower values keep more of the old shape."
        )
        seed = gr.Number(0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed")
        negative = gr.Textbox(label="Steer away from")
    result = gr.ImageSlider(label="Before and after", elem_id="result", interactive=False)
    strip = gr.Gallery(
        label="Edits so far",
        columns=6,
        height=180,
        object_fit="contain",
        allow_preview=False,
        elem_id="edits",
    )
    downloads = gr.File(label="Downloads", file_count="multiple", interactive=False, elem_id="downloads")
    with gr.Accordion("The same edit elsewhere", open=False):
        command = gr.Code(language="shell", label="On the command line", interactive=False, elem_id="command")
        python = gr.Code(language="python", label="In Python", interactive=False, elem_id="python")

    typed = [source, prompt, preset, steps, strength, threshold, seed, negative]
    drawn, shown = [canvas, heat], [result, downloads, command, python]

    def find(session: Session, *values: Any) -> Any:
        picture, asked, began = _picture(session), _asked(*values), time.monotonic()
        arguments = asked.arguments(has_mask=False)
        found = call_watched(session, studio.edits, "locate", picture, generator=_seeded(asked), **arguments)
        new_canvas(session)
        session.found, session.asked = found, asked
        session.strokes = session.strokes.over(session.found_mask())
        return _canvas(session, heat=True), True, notes(began, found.frames)

    def edit(session: Session, layer: bytes | None, heat: bool, *values: Any) -> Any:
        picture, asked, began = _picture(session), _asked(*values), time.monotonic()
        if len(session.edits) >= MOST_EDITS:
            raise ValueError(f"There are {MOST_EDITS} edits; load the page again to begin anew.")
        _read_canvas(session, layer)
        own = session.strokes.corrected(session.found_mask()) if session.strokes else None
        output = call_watched(
            session,
            studio.edits,
            "__call__",
            image=picture,
            mask_image=own,
            trajectory=session.reusable(asked),
            generator=_seeded(asked),
            **asked.arguments(has_mask=own is not None),
        )
        session.kept = {**session.kept, (asked.steps, asked.strength): output.trajectory}
        if own is None:
            session.found, session.asked = output, asked
            session.strokes = session.strokes.over(session.found_mask())
        done = Done(asked, own is not None, _files(session, picture, output))
        session.edits = (*session.edits, done)
        gallery = [(one.files["edited.png"], one.asked.prompt) for one in session.edits]
        return _canvas(session, heat), *show(done), gallery, notes(began, output.frames)

    def show(done: Done) -> list[Any]:
        told = (done.asked, done.has_mask, studio.model)
        pair = (done.files["picture.png"], done.files["edited.png"])
        return [pair, list(done.files.values()), command_line(*told), python_lines(*told)]

    def redraw(session: Session, layer: bytes | None, heat: bool, threshold: float) -> Any:
        _read_canvas(session, layer)
        if session.found is not None and session.found.contrast is not None:
            session.found = session.found.masks_at(threshold)
            session.strokes = session.strokes.over(session.found_mask())
        return _canvas(session, heat)

    def clear(session: Session, heat: bool) -> Any:
        new_canvas(session)
        session.strokes = session.strokes.over(session.found_mask())
        return _canvas(session, heat)

    def go_back(request: gr.Request, event: gr.SelectData) -> Any:
        done = studio.session(str(request.session_hash)).edits[event.index]
        asked = done.asked
        return [*show(done), asked.source, asked.prompt]

    buttons = [finding, editing]
    Work(find, typed, [*drawn, said], buttons, stop).on(studio, finding.click)
    everything = [canvas, *shown, strip, said]
    Work(edit, [*drawn, *typed], everything, buttons, stop).on(studio, editing.click, prompt.submit)
    stop.click(handler(studio, lambda session: session.stop.set()), None, None, **AT_ONCE)
    redrawn = handler(studio, redraw)
    for moved in (threshold.release, heat.input):
        moved(redrawn, [*drawn, threshold], canvas, trigger_mode="always_last", **AT_ONCE)
    canvas.clear(handler(studio, clear), heat, canvas, **AT_ONCE)
    strip.select(go_back, None, [*shown, source, prompt], **AT_ONCE)
    preset.input(lambda name: PRESETS[name].num_inference_steps, preset, steps, **AT_ONCE)
    return canvas, prompt


def _picture(session: Session) -> Image.Image:
    if session.picture is None:
        raise ValueError("There is no picture yet: drop one, or choose a still life.")
    return session.picture


def _asked(source: str, prompt: str, preset: str, *numbers: Any) -> Asked:
    steps, strength, threshold, seed, negative = numbers
    if not (prompt or "").strip():
        raise ValueError("`prompt`: a few words are needed, got none.")
    return Asked(
        source or "", prompt, preset, int(steps), strength, threshold, int(seed or 0), negative or ""
    )


def _seeded(asked: Asked) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(asked.seed)


def _read_canvas(session: Session, layer: bytes | None) -> None:
    """Take note of what was brushed."""
    if layer is not None:
        path = Path(session.save("layer.png", layer))
        if size_of_file(path) == session.strokes.shown.size:
            session.strokes = session.strokes.read(decoded_image(path).convert("RGBA"))
        path.unlink()


def _canvas(session: Session, heat: bool) -> dict[str, Any]:
    """What the canvas shows: the picture, or the soft map over it, under the mask."""
    under, found = _picture(session), session.found
    if heat and found is not None and found.soft_mask is not None and found.frames:
        under = heat_over(under, soft_map(found.soft_mask.cpu(), under.size, found.frames[0].box))
    under = under.resize(session.strokes.shown.size, Image.Resampling.BICUBIC)
    layers = [session.save("mask.png", session.strokes.layer(TINT))]
    return {"background": session.save("picture.png", under), "layers": layers, "composite": None}


def _files(session: Session, picture: Image.Image, output: Any) -> dict[str, str]:
    """An edit's files, by the names that they have on the command line too."""
    (after,), frame = output.images, output.frames[0]
    mask = mask_as_image(output.pixel_mask[0], frame)
    content: dict[str, Image.Image | bytes] = {
        "edited.png": after,
        "mask.png": mask,
        "strip.png": edit_strip(picture, after, mask, output.soft_mask, frame.box),
        "picture.png": picture,
    }
    if output.trajectory is not None:
        content["trajectory.safetensors"] = output.trajectory.to_bytes()
    return {name: session.save(name, one) for name, one in content.items()}
