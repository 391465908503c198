"""The page and the server behind it. Whoever imports this has set what Gradio reads when it is imported itself."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import gradio as gr
import gradio.utils

from semantic_edit.auto import load
from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.disk.telling import show_warnings_of
from semantic_edit.guarding import guarded
from semantic_edit.loading import load_pipeline
from semantic_edit.options import ModelChoice
from semantic_edit.pipelines.visits import Visits
from semantic_edit.recipes import edit_recipes, restyle_recipes
from semantic_edit.web.page import CSS, page
from semantic_edit.web.running import SECONDS_SHOWN, sentence
from semantic_edit.web.studio import Studio

MOST_BYTES = 32 * 2**20
MOST_WAITING = 50
UPLOAD_NAME = 64  # letters in the names of Gradio's folders of uploads, which are digests
NO_IMAGE_ENCODER = (
    "The model has no image encoder, which learning needs; whoever started the page can name one with "
    "`--image-encoder`, for example openai/clip-vit-base-patch16."
)


def studio_of(choice: ModelChoice, vision: Mapping[str, Any], root: Path) -> Studio:
    """The model of a choice, for both methods as far as it can be.

    Args:
        choice: The model.
        vision: An image encoder in place of the model's own; {} for none.
        root: Where the files of visitors are kept.
    """
    edits, model = load_pipeline("diffedit", choice), shown_model(choice)
    # what is learned takes this along to its visitor
    edits.register_to_config(_name_or_path=model if model and is_hub_id(model) else "")
    recipes = partial(edit_recipes, model=model), partial(restyle_recipes, model=model)
    studio = Studio(edits, Visits(root), *recipes, model or "the small still-life model")
    try:
        styles = load(edits, "stylediffusion", **vision)
    except ValueError as error:
        studio.why_no_styles = str(error)
        return studio
    if styles.image_encoder is None:
        studio.why_no_styles = NO_IMAGE_ENCODER
        return studio
    studio.styles = styles
    return studio


def shown_model(choice: ModelChoice) -> str | None:
    """A model's name for visitors, whom the folders of this machine do not concern; `None` for the embedded one."""
    if choice.model is None or (is_hub_id(choice.model) and not Path(choice.model).is_dir()):
        return choice.model
    return Path(choice.model).name


def serve(studio: Studio, server: Mapping[str, Any]) -> gr.Blocks:
    """Show the page, and return it with the addresses at which it is.

    Args:
        studio: What the page works with.
        server: Arguments of Gradio's `launch`, such as `server_name`.

    Raises:
        OSError: If the port is taken, or the host is not this machine's.
    """
    blocks = guarded(page(studio), studio.visits.root)
    # Gradio calls what the page does, so that this package's warnings point there
    show_warnings_of(gradio.utils.__file__, lambda text: gr.Warning(sentence(text), duration=SECONDS_SHOWN))
    warnings.filterwarnings("always", module="gradio.utils")
    warnings.filterwarnings("ignore", "The learning did not converge")  # it advises in terms of Python
    Thread(target=sweep_for_ever, args=(studio.visits.root,), daemon=True).start()
    looks = {"theme": gr.themes.Default(), "css_paths": CSS, "footer_links": [], "ssr_mode": False}
    nothing_else = {"enable_monitoring": False, "run_history": False, "mcp_server": False}
    blocks.queue(max_size=MOST_WAITING)
    blocks.launch(max_file_size=MOST_BYTES, quiet=True, **looks, **nothing_else, **server)
    return blocks


def sweep_for_ever(root: Path, age: float = 120) -> None:
    """Twice a minute, remove uploaded files that have been read: all that are older than some seconds.

    They cannot be removed at once, because files of the same content, even of other visitors, are one file.
    """
    while root.exists():
        for folder in root.iterdir():
            if len(folder.name) == UPLOAD_NAME and time.time() - folder.stat().st_mtime > age:
                shutil.rmtree(folder, ignore_errors=True)
        time.sleep(30)
