"""The whole page, and the server behind it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import gradio as gr
from PIL import Image

from semantic_edit.still_life.cases import EditCase, edit_cases
from semantic_edit.web.editing_tab import editing_tab, new_canvas
from semantic_edit.web.learning_tab import learning_tab
from semantic_edit.web.running import AT_ONCE, handler, refuse, show_warnings_on_page
from semantic_edit.web.studio import Studio, Visit
from semantic_edit.web.uploads import MOST_BYTES, hand_over_files, read_upload, take_files_alone

SAMPLES = 5
MOST_WAITING = 50
CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.gradio-container, .gradio-container .fillable { width: 100%; }
#samples { gap: 8px; align-items: stretch; }
#samples button { flex-direction: column; padding: 6px; gap: 6px; font-size: 12px; font-weight: 400; line-height: 1.2;
    justify-content: flex-start; }
#samples img { height: auto; width: 100%; max-width: 96px; margin: 0; border-radius: 4px; }
#said, #learned, #told { min-height: 76px; }
:is(#said, #learned, #told) .progress-text { position: static; }
:is(#said, #learned, #told) :has(> .progress-level) > .progress-text { display: none; }
#picture img { height: 100%; object-fit: contain; }
.gradio-container .grid-wrap { min-height: 0; }
#edits .grid-container { grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)) !important; }
#downloads [aria-label^="Remove"] { display: none; }
"""


def page(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    cases = [*edit_cases(SAMPLES, seed=1, kinds=("colour", "object"), objects=1)]
    with gr.Blocks(title="Semantic edit", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# Semantic edit\nSay what a picture shows and what it should show instead; only the part that differs is "
            f"redone. Model: {studio.model}."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                upload = gr.Image(
                    label="Picture: drop, paste or choose",
                    sources=["upload", "clipboard"],
                    height=280,
                    elem_id="picture",
                    buttons=[],
                )
                hand_over_files(upload)
            with gr.Column(scale=3, min_width=320):
                gr.Markdown("Or a still life to try:")
                with gr.Row(elem_id="samples"):
                    samples = [
                        gr.Button(
                            case.source_prompt, icon=_sample(studio.root, index, case.image), min_width=80
                        )
                        for index, case in enumerate(cases)
                    ]
                source = gr.Textbox(
                    label="What it shows", placeholder="a pink apple on grass", elem_id="source"
                )
        with gr.Tabs():
            with gr.Tab("Edit"):
                canvas, prompt = editing_tab(studio, source)
            with gr.Tab("Learn and restyle"):
                learning_tab(studio, source)

        def leave(request: gr.Request) -> None:
            studio.forget(str(request.session_hash))

        def take(session: Visit, path: Path | None) -> Any:
            session.take(None)
            if path is None:
                return None, None
            try:
                picture = read_upload(path)
            except ValueError as error:
                refuse(error)
                return None, None
            session.take(picture)
            return session.save(f"{path.stem}.png", picture), new_canvas(session)

        def choose(case: EditCase, session: Visit) -> Any:
            session.take(case.image)
            return (
                session.save("picture.png", case.image),
                new_canvas(session),
                case.source_prompt,
                case.prompt,
            )

        gr.on([upload.upload, upload.clear], handler(studio, take), upload, [upload, canvas], **AT_ONCE)
        for sample, case in zip(samples, cases, strict=True):
            chosen = handler(studio, partial(choose, case))
            sample.click(chosen, None, [upload, canvas, source, prompt], **AT_ONCE)
        blocks.unload(leave)
    for component in blocks.blocks.values():
        take_files_alone(component)
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
    show_warnings_on_page()
    Thread(target=studio.sweep_for_ever, daemon=True).start()
    blocks.queue(max_size=MOST_WAITING).launch(
        css=CSS,
        theme=gr.themes.Default(),
        footer_links=[],
        quiet=True,
        show_error=False,
        max_file_size=MOST_BYTES,
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        **server,
    )
    return blocks


def _sample(root: Path, index: int, image: Image.Image) -> str:
    path = root / "samples" / "of the page" / f"{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return str(path)
