"""What surrounds the stages of a call: its progress bars, and restoring the components afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.denoisers.lora import restored_lora_scale
from semantic_edit.editing.schedule import Schedule
from semantic_edit.pipelines.progress import named_bar
from semantic_edit.pipelines.stages import Session

OneDenoiser = TypeVar("OneDenoiser", bound=Denoiser)

WITH_LORA = ("unet", "transformer", "text_encoder", "text_encoder_2")


def session_of(pipe: Any, denoiser: OneDenoiser, schedule: Schedule) -> Session[OneDenoiser]:
    """The session of a call, with the pipeline's own progress bars.

    Args:
        pipe: The pipeline.
        denoiser: Its model.
        schedule: The call's schedule.
    """
    return Session(denoiser, schedule, partial(named_bar, pipe))


@contextmanager
def components_restored(pipe: Any) -> Iterator[None]:
    """Leave the components as they were, however the call ends: offloaded again, and with their LoRA scale."""
    try:
        with ExitStack() as stack:
            for name in WITH_LORA:
                stack.enter_context(restored_lora_scale(getattr(pipe, name, None)))
            yield
    finally:
        pipe.maybe_free_model_hooks()
