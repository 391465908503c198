"""The command `semantic-edit`: edit a picture by two descriptions, or learn it once and restyle it with words.

Exit codes: 0 done, 1 failed, 2 something to put right on the command line or in a file, 130 interrupted.
torch and diffusers are imported inside the commands, so that `--help` and bad input answer at once.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

from semantic_edit import (
    __version__,
    attention_command,
    bundle_command,
    edit_command,
    evaluate_command,
    learn_command,
    publish_command,
    restyle_command,
    scene_command,
)
from semantic_edit.files import UsageError
from semantic_edit.options import add_traceback

# Each module has `add_options(parser)` and `run(options)`.
COMMANDS = {
    "edit": (edit_command, "edit a picture"),
    "learn": (learn_command, "learn a picture, to restyle it"),
    "restyle": (restyle_command, "edit a learned picture with words"),
    "attention": (attention_command, "draw what each word looks at"),
    "evaluate": (evaluate_command, "compare ways to edit, in figures and pictures"),
    "bundle": (bundle_command, "write a pipeline as one file"),
    "publish": (publish_command, "put a pipeline, the model or a learned picture on the Hub"),
    "scene": (scene_command, "render a still life to edit"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure is one line on stderr."""
    options = _build_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        try:
            options.run(options)
        except KeyboardInterrupt:
            return _say_failure("interrupted", code=130)
        except Exception as error:
            if options.traceback:
                raise
            if isinstance(error, UsageError):
                return _say_failure(error, code=2)
            return _say_failure(f"{type(error).__name__}: {error} (--traceback shows where)", code=1)
    return 0


def _build_parser() -> argparse.ArgumentParser:
    """The whole command line; the chosen command's function comes back as the option `run`."""
    parser = argparse.ArgumentParser(
        prog="semantic-edit", description="Edit what a prompt names in a picture, and nothing else."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (command, purpose) in COMMANDS.items():
        added = commands.add_parser(name, help=purpose, description=command.run.__doc__)
        added.set_defaults(run=command.run)
        command.add_options(added)
        add_traceback(added)
    return parser


def _say_failure(reason: object, code: int) -> int:
    print(f"semantic-edit: error: {' '.join(str(reason).split())}", file=sys.stderr)
    return code


def _say_warning(message: Warning | str, *_where: object, **_file: object) -> None:
    print(f"semantic-edit: warning: {' '.join(str(message).split())}", file=sys.stderr)
