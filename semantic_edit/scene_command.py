"""`semantic-edit scene`: an image to try edits on."""

import argparse

from PIL import Image

from semantic_edit.disk.writing import write_file
from semantic_edit.files import check_outputs, check_suffix, encode_image
from semantic_edit.options import add_output, seed, whole
from semantic_edit.terminal import say


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=seed, default=0, help="each seed gives a different still life (default: 0)"
    )
    parser.add_argument(
        "--objects", type=int, choices=(1, 2), help="number of objects (default: chosen by the seed)"
    )
    parser.add_argument(
        "--scale",
        type=whole(1, 32),
        default=1,
        metavar="N",
        help="side of the image as a multiple of 128 pixels, the size that the model works at (default: 1)",
    )
    add_output(parser, "where to write the image")


def run(options: argparse.Namespace) -> None:
    """Render a still life, and print a caption that describes it."""
    check_suffix("--output", options.output)
    check_outputs({"--output": options.output}, {})
    from semantic_edit.still_life.scenes import sample_scene

    drawn = sample_scene(options.seed, objects=options.objects)
    image = Image.fromarray(drawn.render(options.scale))
    write_file(options.output, encode_image(image, options.output))
    say(drawn.caption(wording=0))
