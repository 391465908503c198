"""From an event of the page to a call of a pipeline: one at a time, with its progress and errors on the page."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from threading import Event
from typing import Any

import gradio as gr

from semantic_edit.disk.telling import in_typed_words
from semantic_edit.pipelines.visits import Visit
from semantic_edit.pipelines.watching import StoppedOnRequest, watched_pipeline
from semantic_edit.web.studio import Studio

PRIVATE: Mapping[str, Any] = {"api_visibility": "private"}
AT_ONCE = {**PRIVATE, "concurrency_id": "page", "concurrency_limit": 8, "show_progress": "hidden"}
MOST_LETTERS = 2000
SECONDS_SHOWN = 15
RECIPES = "On the command line:\n```shell\n{}\n```\nIn Python:\n```python\n{}```"
SKIPPED = gr.skip()
WORDS = {"image": "the picture", "mask_image": "the mask", "mapping_network": "the learned picture"}
SPOKEN: ContextVar[Mapping[str, str]] = ContextVar("spoken", default=WORDS)
"""What the arguments of the pipeline that is running are called on the page."""


def handler(
    studio: Studio, run: Callable[..., Any], words: Mapping[str, str] = WORDS, otherwise: Any = SKIPPED
) -> Callable[..., Any]:
    """`run(visit, *values)` as Gradio calls it, with errors as sentences on the page.

    Args:
        studio: Holds the visits.
        run: What an event does.
        words: What a pipeline's arguments are called where the event is.
        otherwise: What is shown after an error; by default, what was shown before; `None` if an event shows nothing.
    """

    def handle(request: gr.Request, *values: Any) -> Any:
        SPOKEN.set({**WORDS, **words})
        try:
            for letters in (len(value) for value in values if isinstance(value, str)):
                if letters > MOST_LETTERS:
                    raise ValueError(f"A text has {letters:,} letters, and {MOST_LETTERS:,} are allowed.")
            return run(studio.visits.of(str(request.session_hash)), *values)
        except StoppedOnRequest:
            gr.Info("Stopped. Nothing has changed.")
        except (ValueError, TypeError, FloatingPointError, OSError) as error:
            # not as one of Gradio's errors, which would cover what is being worked on
            gr.Warning(sentence(error), duration=SECONDS_SHOWN)
        return otherwise

    return handle


def labels(components: Mapping[str, Any]) -> dict[str, str]:
    """What arguments are called on the page, from the component that each is typed into."""
    return {name: f"“{component.label}”" for name, component in components.items()}


def sentence(said: object) -> str:
    """An error or a warning in the page's words, as HTML."""
    return html.escape(in_typed_words(" ".join(str(said).split()), SPOKEN.get()))


def stop_button(studio: Studio, elem_id: str) -> gr.Button:
    """A button that stops, at its next step, whatever its visitor has running."""
    button = gr.Button("Stop", variant="stop", interactive=False, elem_id=elem_id, min_width=80)
    button.click(handler(studio, lambda visit: visit.stop.set(), otherwise=None), None, None, **AT_ONCE)
    return button


def come_into_view(result: Any) -> None:
    """Scroll, each time that a result changes, until it is seen."""
    scroll = f"document.querySelector('#{result.elem_id}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}})"
    result.change(None, None, None, js=f"() => {{ setTimeout(() => {scroll}, 500) }}", **PRIVATE)


def watched(visit: Visit, pipe: Any) -> Any:
    """A pipeline whose calls show their progress on the page, until they are done or the visitor stops them."""
    progress = gr.Progress()
    return watched_pipeline(pipe, lambda done, total, text: progress((done, total), text), visit.stop)


def on_model(
    studio: Studio,
    start: Callable[..., Any],
    run: Callable[..., Any],
    inputs: Mapping[str, Any],
    outputs: Sequence[Any],
    buttons: Sequence[gr.Button],
) -> None:
    """Let an event call the model: its turn comes in the queue, and until its end it can only be stopped.

    Args:
        studio: Holds the visits.
        start: The event, such as `button.click`.
        run: `run(visit, *values)`; what it returns last is said, behind the time that it took.
        inputs: Of `run`, by the names of the pipeline's arguments, which errors call by the components' labels.
        outputs: Of `run`; the last one shows the progress.
        buttons: Those without effect meanwhile, and last the one that stops it.
    """

    def switch(working: bool) -> list[Any]:
        return [*[gr.Button(interactive=not working)] * (len(buttons) - 1), gr.Button(interactive=working)]

    def begin(visit: Visit) -> list[Any]:
        if visit.stop.is_set():
            visit.stop = Event()
        return switch(True)

    def timed(visit: Visit, *values: Any) -> list[Any]:
        began = time.monotonic()
        *shown, note = run(visit, *values)
        return [*shown, f"Done in {time.monotonic() - began:.1f} s. {note}"]

    began = start(handler(studio, begin), None, buttons, **AT_ONCE)
    one_at_a_time = {**PRIVATE, "concurrency_id": "model", "concurrency_limit": 1}
    handled, sent = handler(studio, timed, labels(inputs)), [*inputs.values()]
    ran = began.then(handled, sent, outputs, show_progress_on=outputs[-1], **one_at_a_time)
    for ended in (ran.success, ran.failure):  # after a failure, Gradio 6.31 does not go on to a `then`
        ended(lambda: switch(False), None, buttons, **AT_ONCE)
