"""The page's second tab: learn the picture, restyle what was learned, see where each word is, keep it as a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from semantic_edit.mapping_networks import MappingNetwork, pack_network, unpack_network
from semantic_edit.pipelines.strips import heat_over
from semantic_edit.web.running import AT_ONCE, Work, call_watched, handler, notes
from semantic_edit.web.studio import Studio, Visit

MOST_PROMPTS = 8
TAUS = {
    "tau_v": ("Learned look", 0.6, "keeps the look that was learned"),
    "tau_c": ("Places of the words", 0.6, "keeps what the words refer to"),
    "tau_s": ("Layout", 0.8, "keeps the layout"),
    "tau_u": ("Layout, unconditional branch", 0.5, "keeps the layout where no words guide"),
}


def learning_tab(studio: Studio, source: gr.Textbox) -> None:
    """Lay out the tab."""
    if studio.styles is None:
        gr.Markdown(studio.why_no_styles)
        return
    gr.Markdown(
        "Learn the picture once, under “What it shows”; then restyle it with as many prompts as you like."
    )
    with gr.Row():
        learning = gr.Button("Learn", variant="primary", elem_id="learn")
        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop-learning")
    steps = gr.Slider(
        2, 50, 30, step=1, label="Steps", info="Later edits take as many.", elem_id="learn-steps"
    )
    said = gr.Markdown("Nothing is learned yet.", elem_id="learned")
    with gr.Row():
        saving = gr.DownloadButton("Save what was learned (.zip)", interactive=False, elem_id="save-network")
        loading = gr.UploadButton("Load a .zip", file_types=[".zip"], elem_id="load-network")
    prompts = gr.Textbox(
        label="Prompts, one on each line",
        lines=3,
        placeholder="a blue apple on grass\na red apple on grass",
        elem_id="prompts",
    )
    with gr.Accordion("How much is kept", open=False):
        taus = [
            gr.Slider(
                0, 1, usual, step=0.05, label=label, info=f"The part of the steps that {kept}.", elem_id=name
            )
            for name, (label, usual, kept) in TAUS.items()
        ]
    restyling = gr.Button("Restyle", variant="primary", elem_id="restyle")
    told = gr.Markdown(
        "The results appear here, with the places where each word was looked for.", elem_id="told"
    )
    with gr.Column(visible=False) as after:
        results = gr.Gallery(label="Restyled", columns=4, object_fit="contain", elem_id="restyled")
        title = "Where each word is looked for"
        words = gr.Gallery(label=title, columns=6, object_fit="contain", elem_id="words")

    def learn(session: Visit, source: str, steps: float) -> Any:
        began = time.monotonic()
        network = call_watched(
            session, studio.styles, "learn_mapping", session.picture, source, num_inference_steps=int(steps)
        )
        return keep(session, network, notes(began))

    def load(session: Visit, archive: str) -> Any:
        return keep(session, unpack_network(Path(archive)), "Loaded.")

    def keep(session: Visit, network: MappingNetwork, note: str) -> Any:
        session.network = network
        archive = session.save("learned.zip", b"")
        pack_network(network, Path(archive))
        quality = f"reconstruction: {network.config.reconstruction_psnr:.1f} dB"
        what = f"Learned: “{network.config.prompt}”, {quality}. {note}"
        return gr.DownloadButton(value=archive, interactive=True), what

    def restyle(session: Visit, prompts: str, *taus: float) -> Any:
        began, network = time.monotonic(), session.network
        if network is None:
            raise ValueError("Nothing is learned yet: press “Learn”, or load a .zip.")
        asked = [line.strip() for line in (prompts or "").splitlines() if line.strip()][:MOST_PROMPTS]
        if not asked:
            raise ValueError("`prompt`: a few words are needed, got none.")
        output = call_watched(
            session,
            studio.styles,
            "__call__",
            asked,
            network,
            output_attention_maps=True,
            **dict(zip(TAUS, taus, strict=True)),
        )
        source = output.reconstruction[0]
        shown = [(source, network.config.prompt), *zip(output.images, asked, strict=True)]
        heats = [
            (heat_over(image, heat), word)
            for (image, _), maps in zip(shown, output.attention_maps, strict=True)
            for word, heat in maps.items()
        ]
        return _saved(session, shown), _saved(session, heats), gr.update(visible=True), notes(began)

    buttons = [learning, restyling]
    Work(learn, [source, steps], [saving, said], buttons, stop).on(studio, learning.click)
    Work(restyle, [prompts, *taus], [results, words, after, told], buttons, stop).on(studio, restyling.click)
    loading.upload(handler(studio, load), loading, [saving, said], **AT_ONCE)


def _saved(session: Visit, images: list[tuple[Image.Image, str]]) -> list[tuple[str, str]]:
    return [(session.save("image.png", image), caption) for image, caption in images]
