"""Run a pipeline, and turn what it refuses or withholds into errors of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semantic_edit.disk.telling import refuse_withheld
from semantic_edit.files import UsageError
from semantic_edit.terminal import complain

if TYPE_CHECKING:
    from semantic_edit.editing.frames import Frame


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a pipeline's errors about its arguments, and about values that are not finite, into a `UsageError`."""
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        raise UsageError(error) from error


def run_edit(pipe: Callable[..., Any], advice: str, **arguments: Any) -> Any:
    """Call a pipeline, and raise if a safety checker has blackened a result.

    Args:
        advice: What to try in that case.

    Raises:
        UsageError: With the pipeline's reason, or naming the prompts whose results were withheld.
    """
    with refusals():
        output = pipe(**arguments)
    if arguments.get("image") is not None:
        tell_frames(output.frames)
    else:
        _tell_learned(output.frames)
    with refusals():
        refuse_withheld(output.nsfw_content_detected, advice)
    return output


def tell_frames(frames: Sequence[Frame] | None) -> None:
    """Say at what part and size a pipeline worked, unless that is the whole image at its own size."""
    for frame in frames or ():
        if not frame.is_plain:
            complain("note", f"the image: {frame}")


def _tell_learned(frames: Sequence[Frame] | None) -> None:
    """Say that a result shows only what was learned, unless that is the whole image at its own size."""
    for frame in frames or ():
        if not frame.is_plain:
            width, height = frame.size
            part = "" if frame.is_whole else " and shows only the part that was learned"
            complain(
                "note",
                f"the result is {width} x {height} pixels{part}; with --image and --mask it is the whole image",
            )
