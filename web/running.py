"""From an event of the page to a call of a pipeline: one at a time, with its progress, errors and notes on the page."""

from __future__ import annotations

import html
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import gradio as gr
import gradio.utils

from semantic_edit.disk.telling import in_typed_words, withheld_results
from semantic_edit.pipelines.watching import StoppedOnRequest, watched_pipeline
from semantic_edit.web.studio import Studio, Visit

ONE_AT_A_TIME: Mapping[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "api_visibility": "private",
}
AT_ONCE: Mapping[str, Any] = {
    "concurrency_id": "page",
    "concurrency_limit": 8,
    "show_progress": "hidden",
    "api_visibility": "private",
}
WORDS = {  # of the pipelines' arguments, as the page shows them
    "image": "the picture",
    "prompt": "“What it should show”",
    "source_prompt": "“What it shows”",
    "negative_prompt": "“Steer away from”",
    "mask_image": "the mask",
    "mask_threshold": "“Threshold”",
    "num_inference_steps": "“Steps”",
    "inpaint_strength": "“Strength”",
    "mapping_network": "the learned picture",
}


def handler(studio: Studio, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run(session, *values)` as Gradio calls it, with errors as sentences on the page.

    Args:
        studio: Holds the sessions.
        run: What an event does.
    """

    def handle(request: gr.Request, *values: Any) -> Any:
        try:
            return run(studio.session(str(request.session_hash)), *values)
        except StoppedOnRequest:
            gr.Info("Nothing has changed.", title="Stopped")
        except (ValueError, TypeError, FloatingPointError, OSError) as error:
            refuse(error)
        return gr.skip()

    return handle


def refuse(error: Exception) -> None:
    """Say on the page why something was not done; Gradio's own errors would cover what is being worked on."""
    gr.Warning(sentence(error), title="That did not work", duration=None)


def call_watched(session: Visit, pipe: Any, method: str, *given: Any, **arguments: Any) -> Any:
    """Call a method of a pipeline, with progress on the page, until it is done or the visitor stops it.

    Args:
        session: Of the visitor.
        pipe: The pipeline.
        method: Its name; `__call__` for the call itself.
        given, arguments: Of the method.

    Raises:
        ValueError: If the model's safety checker withheld a result.
        StoppedOnRequest: If the visitor stopped it.
    """
    progress = gr.Progress()
    mine = watched_pipeline(pipe, lambda done, total, text: progress((done, total), text), session.stop)
    output = getattr(mine, method)(*given, **arguments)
    flags = getattr(output, "nsfw_content_detected", None)
    if reason := withheld_results(flags, "try other words or another seed"):
        raise ValueError(reason)
    return output


def notes(began: float, frames: Sequence[Any] | None = None) -> str:
    """What is said after a call: how long it took, and at which part and size the model worked."""
    seen = [f" The picture: {frame}." for frame in frames or () if not frame.is_plain]
    return f"Done in {time.monotonic() - began:.1f} s.{''.join(seen)}"


def show_warnings_on_page() -> None:
    """From here on, what this package warns of is told to the visitor whom it concerns, each time anew."""
    elsewhere = warnings.showwarning

    def show(message: Any, category: Any, filename: str, *others: Any, **named: Any) -> None:
        if (
            filename == gradio.utils.__file__
        ):  # which calls the handlers, where this package's warnings point to
            gr.Warning(sentence(message))
        else:
            elsewhere(message, category, filename, *others, **named)

    warnings.showwarning = show
    warnings.filterwarnings("always", module="gradio.utils")


def sentence(said: object) -> str:
    """An error or a warning in the page's words, as HTML."""
    return html.escape(in_typed_words(" ".join(str(said).split()), WORDS))


@dataclass(frozen=True)
class Work:
    """An event that calls the model: its turn comes in the queue, and until its end it can only be stopped.

    run: `run(session, *values)`.
    outputs: The last one shows the progress.
    busy: Buttons without effect meanwhile.
    first: Likewise, done before the event waits for its turn: files that were sent do not stay for long.
    """

    run: Callable[..., Any]
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    busy: Sequence[gr.Button]
    stop: gr.Button
    first: Callable[..., None] | None = None
    first_inputs: Sequence[Any] = ()

    def on(self, studio: Studio, *triggers: Any) -> None:
        """Let triggers, such as `button.click`, start it."""

        def switch(working: bool) -> list[Any]:
            return [gr.Button(interactive=not working)] * len(self.busy) + [gr.Button(interactive=working)]

        def begin(session: Visit, *values: Any) -> list[Any]:
            session.stop = Event()
            if self.first is not None:
                self.first(session, *values)
            return switch(True)

        switched = [*self.busy, self.stop]
        self.stop.click(handler(studio, lambda session: session.stop.set()), None, None, **AT_ONCE)
        began = gr.on(triggers, handler(studio, begin), self.first_inputs, switched, **AT_ONCE)
        seen = {"show_progress_on": self.outputs[-1], **ONE_AT_A_TIME}
        ran = began.then(handler(studio, self.run), self.inputs, self.outputs, **seen)
        for ended in (ran.success, ran.failure):  # after a failure, Gradio 6.31 does not go on to a `then`
            ended(lambda: switch(False), None, switched, **AT_ONCE)
