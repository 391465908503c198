"""`semantic-edit web`: the page, for whoever has a browser."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path

from semantic_edit.files import UsageError
from semantic_edit.loading import check_image_encoder, check_model_choice, load_image_encoder, quiet_loading
from semantic_edit.options import add_image_encoder, add_model, model_choice, whole
from semantic_edit.terminal import say

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
        from semantic_edit import serving

        studio = serving.studio_of(
            choice, load_image_encoder(options.image_encoder, options.offline), Path(root)
        )
        server = {"server_name": options.host, "server_port": options.port, "share": options.share}
        try:
            app = serving.serve(studio, {**server, "inbrowser": options.open, "prevent_thread_lock": True})
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
