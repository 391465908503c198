"""How many rows fit into memory together, found by trying; and what fails in company, tried alone."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

Item = TypeVar("Item")
Result = TypeVar("Result")
REFUSALS = (ValueError, TypeError, FloatingPointError)
"""What pipelines raise about the inputs that they were given."""


class DoesNotFit(ValueError):
    """A single row needs more memory than there is."""


@dataclass
class BatchSize:
    """How many rows to run together: twice as many each time, up to `most`, or to what once did not fit.

    most: The cap.
    now: The number to try next.
    """

    most: int
    now: int = 1

    def fitted(self, count: int) -> None:
        """So many rows ran together."""
        if count >= self.now:
            self.now = min(2 * self.now, self.most)

    def failed(self, count: int) -> None:
        """So many rows did not fit: never again."""
        self.now = self.most = max(1, count // 2)


def attempted(
    run: Callable[[list[Item]], Sequence[Result]], items: Sequence[Item], size: BatchSize
) -> list[Result | Exception]:
    """Run items together, as many at a time as fit into memory; each gives its result, or the reason why it has none.

    Args:
        run: Takes several items and returns as many results.
        items: The items.
        size: How many at a time; learns from what fits.
    """
    done: list[Result | Exception] = []
    while len(done) < len(items):
        part = list(items[len(done) : len(done) + size.now])
        outcome = _tried(run, part)
        if isinstance(outcome, MemoryError):  # outside of the handler, whose traceback kept the tensors alive
            gc.collect()
            clear_device_cache()
            if len(part) > 1:
                size.failed(len(part))
                continue
            outcome = DoesNotFit(
                f"does not fit into memory even alone ({outcome}); give a smaller size to work at"
            )
        if not isinstance(outcome, Exception):
            size.fitted(len(part))
            done += outcome
        elif len(part) == 1:
            done.append(outcome)
        else:
            done += [one for item in part for one in attempted(run, [item], BatchSize(1))]
    return done


def _tried(run: Callable[[list[Item]], Sequence[Result]], part: list[Item]) -> Sequence[Result] | Exception:
    try:
        return run(part)
    except REFUSALS as error:
        return error
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        return MemoryError(str(error).splitlines()[0])
