"""The command `semantic-edit`: edit an image by two descriptions, or learn it once and restyle it with words.

Exit codes: 0 for success, 1 for a failure, 2 for something to correct on the command line or in a file, 3 if a batch
leaves out rows, 130 if interrupted, 143 and 129 if ended by SIGTERM and SIGHUP. numpy, torch and diffusers are imported
inside the commands, so that `--help` and errors appear at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from semantic_edit import (
    __version__,
    attention_command,
    batch_command,
    bundle_command,
    edit_command,
    evaluate_command,
    learn_command,
    publish_command,
    restyle_command,
    scene_command,
    web_command,
)
from semantic_edit.disk.telling import in_typed_words
from semantic_edit.files import UsageError
from semantic_edit.options import add_traceback
from semantic_edit.stopping import Stopped, stoppable
from semantic_edit.terminal import complain, visible

# Each module has `add_options(parser)` and `run(options)`, which may return an exit code, and may have `WORDS`, its
# names for pipelines' arguments.
COMMANDS = {
    "edit": (edit_command, "edit an image"),
    "learn": (learn_command, "learn an image, to restyle it later"),
    "restyle": (restyle_command, "edit a learned image with words"),
    "attention": (attention_command, "show which part of an image each word refers to"),
    "batch": (batch_command, "edit thousands of images, on many processes and machines"),
    "evaluate": (evaluate_command, "compare editing methods, in tables and grids of images"),
    "bundle": (bundle_command, "write a pipeline to a single file"),
    "publish": (
        publish_command,
        "upload a pipeline, the still-life model, a learned image or the page to the Hub",
    ),
    "scene": (scene_command, "render a still life to edit"),
    "web": (web_command, "serve a page to edit, learn and restyle in a browser"),
}


class _Parser(argparse.ArgumentParser):
    """A parser with hints in its errors, and without control characters in its messages."""

    def _print_message(self, message: str, file: Any = None) -> None:
        lines = message.split("\n")
        super()._print_message("\n".join(map(visible, lines)), file)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}{self._hint(message)} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and keep what was typed for hints."""
        self._typed = [*(sys.argv[1:] if args is None else args)]
        return super().parse_known_args(args, namespace)

    def _hint(self, message: str) -> str:
        """What may have been meant: a misspelt option or command, or words that need quotes."""
        commands = {
            name: parser
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name, parser in action.choices.items()
        }
        chosen = [self, *(commands[word] for word in self._typed[:1] if word in commands)]
        options = [name for parser in chosen for action in parser._actions for name in action.option_strings]
        for word in self._typed:
            typed = word.partition("=")[0]
            if typed.startswith("--") and typed not in options:
                near = difflib.get_close_matches(typed, options, 1)
                return f"; did you mean {near[0]}?" if near else ""
        if "invalid choice" in message:
            near = difflib.get_close_matches(self._typed[0], commands, 1)
            return f"; did you mean {near[0]}?" if near else ""
        is_text = message.startswith("unrecognized arguments") and "-" not in message
        return "; text of several words needs quotes" if is_text else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure is one line on stderr."""
    options = _build_parser().parse_args(arguments)

    def show(message: Warning | str, *_where: object, **_file: object) -> None:
        complain("warning", in_typed_words(str(message), options.words))

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            with stoppable():
                return options.run(options) or 0
        except Stopped as stop:
            return _fail(stop.reason, stop.code)
        except KeyboardInterrupt:
            return _fail("interrupted", 130)
        except BrokenPipeError:  # the reader of the output has stopped reading
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except Exception as error:
            if options.traceback:
                raise
            if isinstance(error, UsageError):
                return _fail(in_typed_words(str(error), options.words), 2)
            if isinstance(error, OSError) and error.filename is not None:
                return _fail(f"{os.fsdecode(error.filename)}: {error.strerror}", 1)
            return _fail(f"{type(error).__name__}: {error} (--traceback shows where)", 1)


def _build_parser() -> argparse.ArgumentParser:
    """The whole command line; the option `run` is the chosen command's function."""
    parser = _Parser(
        prog="semantic-edit", description="Edit what a prompt names in an image, and nothing else."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (command, purpose) in COMMANDS.items():
        added = commands.add_parser(name, help=purpose, description=command.run.__doc__)
        added.set_defaults(run=command.run, words=getattr(command, "WORDS", {}))
        command.add_options(added)
        add_traceback(added)
    return parser


def _fail(reason: str, code: int) -> int:
    complain("error", reason)
    return code
