"""What can be typed after `semantic-edit`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from semantic_edit import __version__

Command: TypeAlias = Callable[[argparse.Namespace], None]


def build_parser(edit: Command, scene: Command) -> argparse.ArgumentParser:
    """The whole command line; the chosen command's function comes back as the option `run`."""
    parser = argparse.ArgumentParser(
        prog="semantic-edit", description="Edit what a prompt names in a picture, and nothing else."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    editing = commands.add_parser("edit", help="edit a picture", description=edit.__doc__)
    editing.set_defaults(run=edit)
    _add_edit(editing)
    drawing = commands.add_parser("scene", help="render a still life to edit", description=scene.__doc__)
    drawing.set_defaults(run=scene)
    _add_scene(drawing)
    return parser


def _add_edit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, help="the picture to edit")
    parser.add_argument(
        "--source", default="", metavar="TEXT", help="what the picture shows now (may be left out)"
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what it shall show")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FILE", help="where the edited picture goes"
    )
    _add_method(parser.add_argument_group("the edit"))
    _add_model(parser.add_argument_group("the model"))
    _add_files(parser.add_argument_group("further files"))
    _add_traceback(parser)


def _add_method(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--seed", type=_seed, default=0, help="of the mask's noises (default: 0)")
    group.add_argument("--steps", type=int, metavar="N", help="steps of the whole schedule (default: 50)")
    group.add_argument(
        "--guidance-scale", type=float, metavar="W", help="how strongly the prompt pulls (default: 7.5)"
    )
    group.add_argument("--negative", metavar="TEXT", help="what the result shall not show")
    group.add_argument(
        "--strength", type=float, metavar="R", help="fraction of the schedule to redo (default: 0.8)"
    )
    group.add_argument(
        "--maps", type=int, metavar="N", help="noise maps averaged into the mask (default: 10)"
    )
    group.add_argument(
        "--mask-threshold", type=float, metavar="T", help="higher makes a smaller mask (default: 0.5)"
    )
    group.add_argument("--mask-grow", type=int, metavar="PX", help="widen the mask, or narrow it if negative")
    group.add_argument("--mask-feather", type=float, metavar="PX", help="soften the mask's edge")
    group.add_argument(
        "--preserve-background",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the original pixels outside the mask (default: yes)",
    )
    group.add_argument(
        "--size", type=_size, metavar="WxH", help="resize the picture first, for example 512x384"
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="ID", help="a folder or a Hub id (default: the small still-life model)"
    )
    group.add_argument("--offline", action="store_true", help="take a Hub id from the local cache alone")
    group.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: the fastest there is)"
    )
    group.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="(default: float16 on cuda, else float32)"
    )


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask", type=Path, metavar="FILE", help="edit where this picture is white, instead of a found mask"
    )
    group.add_argument("--save-mask", type=Path, metavar="FILE", help="keep the mask")
    group.add_argument(
        "--trajectory", type=Path, metavar="FILE", help="reuse a saved inversion of this picture"
    )
    group.add_argument(
        "--save-trajectory", type=Path, metavar="FILE", help="keep the inversion (.safetensors)"
    )
    group.add_argument("--strip", type=Path, metavar="FILE", help="draw before | soft map | mask | after")


def _add_scene(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=_seed, default=0, help="each seed is another still life (default: 0)")
    parser.add_argument(
        "--objects", type=int, choices=(1, 2), help="how many objects (default: as the seed falls)"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FILE", help="where the picture goes"
    )
    _add_traceback(parser)


def _add_traceback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--traceback", action="store_true", help="show where an unexpected failure happened")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to 2**63 - 1 is needed, got {text!r}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"a size reads WIDTHxHEIGHT, for example 512x384, got {text!r}")
    return int(width), int(height)
