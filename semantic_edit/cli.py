"""The command `semantic-edit`: edit a picture by two descriptions, or learn it once and restyle it with words.

Exit codes: 0 done, 1 failed, 2 something to put right on the command line or in a file, 130 interrupted, 143 and 129
ended by SIGTERM and SIGHUP. numpy, torch and diffusers are imported inside the commands, so that `--help` and bad input
answer at once.
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
from semantic_edit.stopping import Stopped, stoppable
from semantic_edit.terminal import complain, in_typed_words, visible

# Each module has `add_options(parser)` and `run(options)`, and may have `WORDS` for what the pipelines call otherwise.
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


class _Parser(argparse.ArgumentParser):
    """One whose messages show what was typed, and do nothing to the terminal."""

    def _print_message(self, message: str, file: Any = None) -> None:
        lines = message.split("\n")
        super()._print_message("\n".join(map(visible, lines)), file)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}{self._hint(message)} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Keep what was typed, for hints."""
        self._typed = [*(sys.argv[1:] if args is None else args)]
        return super().parse_known_args(args, namespace)

    def _hint(self, message: str) -> str:
        """What may have been meant: an option or a command with a slip, or words that lack their quotes."""
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
                options.run(options)
        except Stopped as stop:
            return _fail(stop.reason, stop.code)
        except KeyboardInterrupt:
            return _fail("interrupted", 130)
        except BrokenPipeError:  # whoever read the output wanted no more of it
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
    return 0


def _build_parser() -> argparse.ArgumentParser:
    """The whole command line; the chosen command's function comes back as the option `run`."""
    parser = _Parser(
        prog="semantic-edit", description="Edit what a prompt names in a picture, and nothing else."
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
