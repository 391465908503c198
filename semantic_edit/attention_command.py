"""`semantic-edit attention`: a learned image once for each word, warm where the model attends to the word."""

from __future__ import annotations

import argparse

from semantic_edit.disk.writing import write_file
from semantic_edit.files import UsageError, check_outputs, check_suffix, encode_picture
from semantic_edit.loading import (
    check_mapping,
    check_model_choice,
    load_mapping,
    load_pipeline_for,
    quiet_loading,
)
from semantic_edit.options import add_mapping, add_model, add_output, model_choice, words
from semantic_edit.running import run_edit
from semantic_edit.terminal import say

PANELS_IN_A_ROW = 6
WORDS = {"mapping_network": "--mapping", "prompt": "--prompt"}
NO_WORDS = "there are no words to draw; pass some with --prompt"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_mapping(parser)
    parser.add_argument(
        "--prompt",
        type=words,
        metavar="TEXT",
        help="edit the image by this prompt and show its words (default: show those of the learned prompt)",
    )
    add_output(parser, "where to write the overview")
    add_model(parser, default="the one that the image was learned with")


def run(options: argparse.Namespace) -> None:
    """Show which part of a learned image, or of an edit of it, each word refers to."""
    check_suffix("--output", options.output)
    check_outputs({"--output": options.output}, {})
    check_mapping(options.mapping)
    if options.model is not None:  # otherwise it is the one that the image was learned with
        check_model_choice(model_choice(options))
    if options.prompt is not None and not options.prompt.split():
        raise UsageError(NO_WORDS)
    quiet_loading()
    network = load_mapping(options.mapping, options.offline)
    own = options.prompt is None
    prompt = network.config.prompt if own else options.prompt
    if not prompt.split():
        raise UsageError(NO_WORDS)
    pipe = load_pipeline_for(
        network,
        options.mapping,
        model_choice(options),
    )
    output = run_edit(
        pipe, "try other words", prompt=prompt, mapping_network=network, output_attention_maps=True
    )
    from semantic_edit.strips import heat_over, strip

    (picture,) = output.reconstruction if own else output.images
    heats = output.attention_maps[0 if own else 1]
    panels = [(prompt, picture), *((word, heat_over(picture, heat)) for word, heat in heats.items())]
    write_file(options.output, encode_picture(strip(panels, PANELS_IN_A_ROW), options.output))
    say(options.output)
