"""`semantic-edit web`: the page, for whoever has a browser."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.files import UsageError
from semantic_edit.loading import (
    check_image_encoder,
    check_model_choice,
    load_image_encoder,
    load_pipeline,
    quiet_loading,
)
from semantic_edit.options import ModelChoice, add_image_encoder, add_model, model_choice, whole
from semantic_edit.recipes import edit_recipes
from semantic_edit.terminal import say

if TYPE_CHECKING:
    from semantic_edit.web.studio import Studio

NO_GRADIO = "the page needs Gradio, which is not installed: pip install 'diffusers-semantic-edit[web]'"


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="NAME",
        help="address to listen at; 0.0.0.0 lets other machines in (default: 127.0.0.1, this machine alone)",
    )
    group.add_argument(
        "--port",
        type=whole(1, 65535),
        metavar="N",
        help="port to listen at (default: the first free one from 7860)",
    )
    group.add_argument(
        "--share", action="store_true", help="also ask Gradio for a public address, through its own servers"
    )
    group.add_argument("--open", action="store_true", help="open the page in the browser")
    add_model(parser)
    add_image_encoder(parser)


def run(options: argparse.Namespace) -> None:
    """Serve a page where visitors find, correct, edit, learn and restyle, with the model that is named here."""
    if importlib.util.find_spec("gradio") is None:
        raise UsageError(NO_GRADIO)
    choice = model_choice(options)
    check_model_choice(choice)
    check_image_encoder(options.image_encoder)
    quiet_loading()
    # both are read when Gradio is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with tempfile.TemporaryDirectory(prefix="semantic-edit-") as root:
        os.environ["GRADIO_TEMP_DIR"] = root
        from semantic_edit.web.page import serve

        studio = studio_of(choice, load_image_encoder(options.image_encoder, options.offline), Path(root))
        server = {"server_name": options.host, "server_port": options.port, "share": options.share}
        try:
            app = serve(studio, {**server, "inbrowser": options.open, "prevent_thread_lock": True})
        except OSError as error:
            place = options.host if options.port is None else f"{options.host}:{options.port}"
            raise UsageError(f"cannot listen at {place}: {' '.join(str(error).split())}") from error
        say(f"The page is at {app.local_url} (Ctrl-C ends it)")
        if app.share_url:
            say(f"and for everybody at {app.share_url}")
        try:
            app.block_thread()
        finally:
            app.close()


def studio_of(choice: ModelChoice, vision: dict[str, object], root: Path) -> Studio:
    """The model of a choice, for both methods as far as it can be.

    Args:
        choice: The model.
        vision: An image encoder in place of the model's own; {} for none.
        root: Where the files of visitors are kept.
    """
    from semantic_edit.auto import load
    from semantic_edit.web.studio import Studio

    edits, model = load_pipeline("diffedit", choice), shown_model(choice)
    studio = Studio(edits, root, partial(edit_recipes, model=model), model or "the small still-life model")
    try:
        styles = load(edits, "stylediffusion", **vision)
    except ValueError as error:
        studio.why_no_styles = str(error)
        return studio
    if styles.image_encoder is None:
        studio.why_no_styles = (
            "The model has no image encoder, which learning needs; whoever started the page can name one with "
            "`--image-encoder`, for example openai/clip-vit-base-patch16."
        )
        return studio
    studio.styles = styles
    return studio


def shown_model(choice: ModelChoice) -> str | None:
    """A model's name for visitors, whom the folders of this machine do not concern; `None` for the embedded one."""
    if choice.model is None or is_hub_id(choice.model):
        return choice.model
    return Path(choice.model).name
