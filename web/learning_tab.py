"""The page's second tab: learn the picture, restyle what was learned, see where each word is, keep it as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from semantic_edit.disk.telling import refuse_withheld
from semantic_edit.mapping_networks import MappingNetwork, pack_network, unpack_network
from semantic_edit.pipelines import AUTOMATIC, RestyleSettings
from semantic_edit.pipelines.series import captioned, prompts_in
from semantic_edit.pipelines.visits import Visit
from semantic_edit.web.running import (
    AT_ONCE,
    RECIPES,
    come_into_view,
    handler,
    on_model,
    stop_button,
    watched,
)
from semantic_edit.web.studio import Studio

MOST_PROMPTS = 8
KEPT = "The part of the steps that keeps {}."
TAUS = {
    "tau_v": ("Learned look", "the look that was learned"),
    "tau_c": ("Places of the words", "the places that the words refer to"),
    "tau_s": ("Layout", "the places of things"),
    "tau_u": ("Layout without words", "the places of things where the model draws without words"),
}
QUALITY = "Drawn again, the picture reaches {:.1f} dB; from about 30 on, it looks the same."


def learning_tab(studio: Studio, source: gr.Textbox) -> list[gr.Textbox]:
    """Lay out the tab, for a picture that `source` describes; return its box of prompts, if the model can learn."""
    if studio.styles is None:
        gr.Markdown(studio.why_no_styles)
        return []
    gr.Markdown("Learn the picture once, under “What it shows”; then restyle it as often as you like.")
    with gr.Row():
        learning = gr.Button("Learn", variant="primary", elem_id="learn", min_width=80)
        stop = stop_button(studio, "stop-learning")
    note = "Restyling takes as many."
    steps = gr.Slider(2, 50, 20, step=1, label="Steps to learn with", info=note, elem_id="learn-steps")
    learned = gr.Markdown("Nothing is learned yet.", elem_id="learned")
    with gr.Row():
        saving = gr.DownloadButton("Save what was learned (.zip)", interactive=False, elem_id="save-network")
        loading = gr.UploadButton("Load a .zip", file_types=[".zip"], elem_id="load-network")
    example = "a blue apple on grass\na red apple on grass"
    prompts = gr.Textbox(label="Prompts, one on each line", lines=3, placeholder=example, elem_id="prompts")
    confined = gr.Checkbox(True, label="Only where the descriptions differ", elem_id="confined")
    with gr.Accordion("How much of the picture is kept", open=False):
        taus = [
            gr.Slider(0, 1, getattr(RestyleSettings, name), step=0.05, label=label, info=KEPT.format(kept))
            for name, (label, kept) in TAUS.items()
        ]
    restyling = gr.Button("Restyle", variant="primary", elem_id="restyle")
    told = gr.Markdown("The results appear here, with the places of each word.", elem_id="told")
    with gr.Column(visible=False) as after:
        results = gr.Gallery(label="Restyled", columns=4, object_fit="contain", elem_id="restyled")
        places = gr.Gallery(label="Places of the words", columns=1, object_fit="contain", elem_id="words")
        files = gr.File(label="The picture that was learned", visible=False, elem_id="learned-picture")
        with gr.Accordion("The same edits elsewhere", open=False):
            recipes = gr.Markdown(elem_id="restyle-recipes")

    def learn(visit: Visit, source: str, steps: int) -> list[Any]:
        pipe, image = watched(visit, studio.styles), visit.bench.image
        network = pipe.learn_mapping(image, source, num_inference_steps=steps)
        note = "" if all(network.report.converged) else " This is less than usual; more steps may help."
        return keep(visit, network, image, "Learned", note)

    def keep(visit: Visit, network: MappingNetwork, pictured: Any, verb: str, note: str = "") -> list[Any]:
        archive = visit.save("learned.zip", pack_network(network))
        visit.network, visit.pictured, made = network, pictured, network.config
        return [
            gr.DownloadButton(value=archive, interactive=True),
            f"{verb}: “{made.prompt}”. {QUALITY.format(made.reconstruction_psnr)}{note}",
        ]

    def load(visit: Visit, sent: Any) -> list[Any]:
        return keep(visit, unpack_network(Path(sent["path"])), None, "Loaded")

    def restyle(visit: Visit, prompts: str, confined: bool, *taus: float) -> list[Any]:
        network, kept, laid = visit.network, dict(zip(TAUS, taus, strict=True)), visit.pictured is not None
        if network is None:
            raise ValueError("Nothing is learned yet: press “Learn”, or load a .zip.")
        asked = prompts_in(prompts, MOST_PROMPTS)
        where = {"mask_image": AUTOMATIC, "image": visit.pictured, "preserve_background": laid}
        pipe = watched(visit, studio.styles)
        output = pipe(asked, network, output_attention_maps=True, **(where if confined else {}), **kept)
        refuse_withheld(output.nsfw_content_detected, "try other words")
        images, maps = captioned(output, network.config.prompt, asked)
        shown = [visit.save_each("restyled.png", images), visit.save_each("words.png", maps)]
        pictured = visit.save("picture.png", visit.pictured) if visit.pictured else None
        lines = RECIPES.format(*studio.restyle_recipes(asked, kept, confined, laid))
        return [*shown, gr.update(value=pictured, visible=laid), lines, gr.update(visible=True), ""]

    buttons, lesson = [learning, restyling, stop], {"prompt": source, "num_inference_steps": steps}
    on_model(studio, learning.click, learn, lesson, [saving, learned], buttons)
    asked = {"prompt": prompts, "confined": confined, **dict(zip(TAUS, taus, strict=True))}
    shown = [results, places, files, recipes, after, told]
    on_model(studio, restyling.click, restyle, asked, shown, buttons)
    loading.upload(handler(studio, load), loading, [saving, learned], preprocess=False, **AT_ONCE)
    come_into_view(results)
    return [prompts]
