"""What a pipeline refuses or withholds, as errors of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semantic_edit.files import UsageError
from semantic_edit.terminal import complain

if TYPE_CHECKING:
    from semantic_edit.editing.frames import Frame


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the error with which a pipeline refuses its arguments, or gives up what is not finite, into one line."""
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        raise UsageError(error) from error


def run_edit(pipe: Callable[..., Any], advice: str, **arguments: Any) -> Any:
    """Call a pipeline, and refuse to go on with the black pictures of a safety checker.

    Args:
        advice: What to try then.

    Raises:
        UsageError: With the pipeline's reason, or naming the prompts whose results are withheld.
    """
    with refusals():
        output = pipe(**arguments)
    if arguments.get("image") is not None:
        tell_frames(output.frames)
    else:
        _tell_learned(output.frames)
    flags = output.nsfw_content_detected or []
    withheld = [str(index) for index, flag in enumerate(flags, start=1) if flag]
    if withheld:
        which = "the result" if len(flags) == 1 else f"the result of prompt {', '.join(withheld)}"
        raise UsageError(f"the model's safety checker withheld {which}; {advice}")
    return output


def tell_frames(frames: Sequence[Frame] | None) -> None:
    """Say what a pipeline worked at, where that is not just the picture."""
    for frame in frames or ():
        if not frame.is_plain:
            complain("note", f"the picture: {frame}")


def _tell_learned(frames: Sequence[Frame] | None) -> None:
    """Say that a result is what was learned alone, where that is not just the picture."""
    for frame in frames or ():
        if not frame.is_plain:
            width, height = frame.size
            part = "" if frame.is_whole else " and shows only the part that was learned"
            complain(
                "note",
                f"the result is {width} x {height} pixels{part}; --image and --mask give the whole picture",
            )
