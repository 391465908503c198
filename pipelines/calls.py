"""What the running call was asked to do, where diffusers' callbacks expect it: on the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from semantic_edit.pipelines.ranges import plain_numbers

ATTENTION_KWARGS = ("cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs")
"""What diffusers' pipelines call the arguments of attention processors."""


@dataclass
class CallSettings:
    """The settings of one call, under the names that diffusers' pipelines use.

    num_timesteps: The number of decoding steps.
    """

    num_timesteps: int
    guidance_scale: float
    guidance_rescale: float = 0.0
    clip_skip: int | None = None
    cross_attention_kwargs: dict[str, Any] | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any], num_timesteps: int, guidance_scale: float) -> CallSettings:
        """The settings of a call with the given arguments."""
        rescale, clip_skip = arguments.get("guidance_rescale", 0.0), arguments.get("clip_skip")
        kwargs = next((arguments[name] for name in ATTENTION_KWARGS if name in arguments), None)
        return cls(num_timesteps, guidance_scale, float(rescale), clip_skip, kwargs)

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether there is guidance."""
        return self.guidance_scale > 1


RUNNING: ContextVar[Mapping[int, CallSettings]] = ContextVar(
    "semantic_edit_calls", default=MappingProxyType({})
)
"""The calls in progress in this thread, by the `id` of their pipeline: a callback may call another pipeline."""


@contextmanager
def running_call(pipe: Any, settings: CallSettings) -> Iterator[None]:
    """Let this thread, and no other, find `settings` on the pipeline during the block."""
    before = RUNNING.set({**RUNNING.get(), id(pipe): settings})
    try:
        yield
    finally:
        RUNNING.reset(before)


class OfTheCall:
    """An attribute of a pipeline that belongs to the running call, and exists only inside its callbacks.

    Args:
        name: The name of the setting.
        may_change: Whether a callback may set it.
    """

    def __init__(self, name: str, may_change: bool = False) -> None:
        self.name, self.may_change = name, may_change

    def __get__(self, pipe: Any, _owner: type | None = None) -> Any:
        if pipe is None:
            return self
        settings = RUNNING.get().get(id(pipe))
        if settings is None:
            raise AttributeError(f"`{self.name}` belongs to a call: it can only be read inside its callback.")
        return getattr(settings, self.name)

    def __set__(self, pipe: Any, value: Any) -> None:
        settings = RUNNING.get().get(id(pipe))
        if settings is None or not self.may_change:
            raise AttributeError(
                f"`{self.name}` of {type(pipe).__name__} cannot be set: nothing of a call is kept on the pipeline. "
                "Pass it to the call; in a callback only `_guidance_scale` may be set, for the remaining steps."
            )
        (value,) = plain_numbers(**{self.name: value})
        setattr(settings, self.name, value)
