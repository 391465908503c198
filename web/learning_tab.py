"""The page's second tab: learn the picture, restyle what was learned, see where each word is, keep it as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from semantic_edit.disk.telling import refuse_withheld
from semantic_edit.mapping_networks import MappingNetwork, pack_network, unpack_network
from semantic_edit.pipelines import AUTOMATIC, RestyleSettings
from semantic_edit.pipelines.strips import word_strip
from semantic_edit.web.running import AT_ONCE, handler, on_model, stop_button, watched
from semantic_edit.web.studio import Studio, Visit

MOST_PROMPTS = 8
TAUS = {
    "tau_v": ("Learned look", "The look that was learned."),
    "tau_c": ("Places of the words", "What the words refer to."),
    "tau_s": ("Layout", "Where things are."),
    "tau_u": ("Layout, unconditional branch", "The same, where no words guide."),
}


def learning_tab(studio: Studio, source: gr.Textbox) -> None:
    """Lay out the tab, for a picture that `source` describes."""
    if studio.styles is None:
        gr.Markdown(studio.why_no_styles)
        return
    gr.Markdown("Learn the picture once, under “What it shows”; then restyle it as often as you like.")
    with gr.Row():
        learning = gr.Button("Learn", variant="primary", elem_id="learn", min_width=80)
        stop = stop_button(studio, "stop-learning")
    steps = gr.Slider(2, 50, 30, step=1, label="Steps (restyling takes as many)", elem_id="learn-steps")
    learned = gr.Markdown("Nothing is learned yet.", elem_id="learned")
    with gr.Row():
        saving = gr.DownloadButton("Save what was learned (.zip)", interactive=False, elem_id="save-network")
        loading = gr.UploadButton("Load a .zip", file_types=[".zip"], elem_id="load-network")
    example = "a blue apple on grass\na red apple on grass"
    prompts = gr.Textbox(label="Prompts, one on each line", lines=3, placeholder=example, elem_id="prompts")
    confined = gr.Checkbox(True, label="Only where the descriptions differ", elem_id="confined")
    with gr.Accordion("How much is kept, as a part of the steps", open=False):
        taus = [
            gr.Slider(0, 1, getattr(RestyleSettings, name), step=0.05, label=label, info=kept)
            for name, (label, kept) in TAUS.items()
        ]
    restyling = gr.Button("Restyle", variant="primary", elem_id="restyle")
    told = gr.Markdown("The results appear here, with the places of each word.", elem_id="told")
    with gr.Column(visible=False) as after:
        results = gr.Gallery(label="Restyled", columns=4, object_fit="contain", elem_id="restyled")
        words = gr.Gallery(label="Places of the words", columns=1, object_fit="contain", elem_id="words")

    def learn(visit: Visit, source: str, steps: int) -> list[Any]:
        pipe, image = watched(visit, studio.styles), visit.bench.image
        network = pipe.learn_mapping(image, source, num_inference_steps=steps)
        note = "" if all(network.report.converged) else " This is less than usual; more steps may help."
        return keep(visit, network, image, note)

    def keep(visit: Visit, network: MappingNetwork, pictured: Image.Image | None, note: str) -> list[Any]:
        archive = visit.save("learned.zip", pack_network(network))
        visit.network, visit.pictured, made = network, pictured, network.config
        what = f"Learned: “{made.prompt}”, reconstruction: {made.reconstruction_psnr:.1f} dB.{note}"
        return [gr.DownloadButton(value=archive, interactive=True), what]

    def restyle(visit: Visit, prompts: str, confined: bool, *taus: float) -> list[Any]:
        network, kept, laid = visit.network, dict(zip(TAUS, taus, strict=True)), visit.pictured is not None
        if network is None:
            raise ValueError("Nothing is learned yet: press “Learn”, or load a .zip.")
        asked = [line.strip() for line in (prompts or "").splitlines() if line.strip()][:MOST_PROMPTS]
        if not asked:
            raise ValueError("“Prompts, one on each line”: a few words are needed, got none.")
        where = {"mask_image": AUTOMATIC, "preserve_background": laid} if confined else {}
        pipe = watched(visit, studio.styles)
        output = pipe(asked, network, image=visit.pictured, output_attention_maps=True, **where, **kept)
        refuse_withheld(output.nsfw_content_detected, "try other words")
        images = [output.reconstruction[0], *output.images]
        shown = list(zip(images, [network.config.prompt, *asked], strict=True))
        strips = [word_strip(*one, maps) for one, maps in zip(shown, output.attention_maps, strict=True)]
        restyled = [(visit.save("restyled.png", image), prompt) for image, prompt in shown]
        return [restyled, [visit.save("words.png", one) for one in strips], gr.update(visible=True), ""]

    buttons = [learning, restyling, stop]
    on_model(studio, learning.click, learn, [source, steps], [saving, learned], buttons)
    on_model(
        studio, restyling.click, restyle, [prompts, confined, *taus], [results, words, after, told], buttons
    )
    load = handler(
        studio, lambda visit, archive: keep(visit, unpack_network(Path(archive)), None, " Loaded.")
    )
    loading.upload(load, loading, [saving, learned], **AT_ONCE)
