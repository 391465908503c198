"""`semantic-edit attention`: an image once for each word, warm where the model attends to the word."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from semantic_edit.disk.writing import write_file
from semantic_edit.files import (
    UsageError,
    check_images,
    check_inputs,
    check_outputs,
    check_suffix,
    encode_image,
)
from semantic_edit.loading import (
    check_mapping,
    check_model_choice,
    load_image,
    load_mapping,
    load_pipeline,
    load_pipeline_for,
    quiet_loading,
)
from semantic_edit.options import add_mapping, add_model, add_output, model_choice, words
from semantic_edit.running import refusals, run_edit
from semantic_edit.terminal import say

if TYPE_CHECKING:
    from PIL.Image import Image

    Drawn: TypeAlias = tuple[str, Image, dict[str, Image]]
    """A title, an image, and a heat map for each word."""

PANELS_IN_A_ROW = 6
WORDS = {"mapping_network": "--mapping", "prompt": "--prompt"}
NO_WORDS = "there are no words to draw; pass some with --prompt"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", nargs="?", type=Path, help="an image that nobody learned; describe it with --prompt"
    )
    add_mapping(parser, required=False)
    parser.add_argument(
        "--prompt",
        type=words,
        metavar="TEXT",
        help="what the image shows; with --mapping, edit the learned image by this prompt and show its words (default: "
        "show those of the learned prompt)",
    )
    add_output(parser, "where to write the overview")
    add_model(parser, default="the still-life model, or the one that the image was learned with")


def run(options: argparse.Namespace) -> None:
    """Show which part of an image, or of an edit of a learned image, each word refers to."""
    check_suffix("--output", options.output)
    if (options.image is None) == (options.mapping is None):
        raise UsageError("name either an image or, with --mapping, a learned one")
    inputs = {} if options.image is None else {"the image": options.image}
    check_outputs({"--output": options.output}, inputs)
    if options.prompt is not None and not options.prompt.split():
        raise UsageError(NO_WORDS)
    title, image, heats = _of_an_image(options) if options.mapping is None else _of_a_learned_one(options)
    from semantic_edit.pipelines.strips import word_strip

    write_file(options.output, encode_image(word_strip(image, title, heats), options.output))
    say(options.output)


def _of_an_image(options: argparse.Namespace) -> Drawn:
    if options.prompt is None:
        raise UsageError("--prompt must say what the image shows")
    check_inputs({"the image": options.image})
    check_images({"the image": options.image})
    check_model_choice(model_choice(options))
    quiet_loading()
    image = load_image(options.image)
    import torch

    pipe = load_pipeline("diffedit", model_choice(options))
    with refusals():
        output = pipe.explain(image, options.prompt, torch.Generator("cpu").manual_seed(0))
    return options.prompt, image, output.attention_maps[0]


def _of_a_learned_one(options: argparse.Namespace) -> Drawn:
    check_mapping(options.mapping)
    if options.model is not None:  # otherwise it is the one that the image was learned with
        check_model_choice(model_choice(options))
    quiet_loading()
    network = load_mapping(options.mapping, options.offline)
    own = options.prompt is None
    prompt = network.config.prompt if own else options.prompt
    if not prompt.split():
        raise UsageError(NO_WORDS)
    pipe = load_pipeline_for(network, options.mapping, model_choice(options))
    output = run_edit(
        pipe, "try other words", prompt=prompt, mapping_network=network, output_attention_maps=True
    )
    (image,) = output.reconstruction if own else output.images
    return prompt, image, output.attention_maps[0 if own else 1]
