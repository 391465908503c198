"""Reading ahead and writing behind: the network does not wait for disks and formats."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
READERS = 4
WAITING = 4
"""Lots of results that may wait to be written; then the network waits, so that memory stays flat."""


class ReadAhead(Generic[Item, Read]):
    """Items in order, each with what was read of it beforehand.

    Args:
        read: Reads one item, in any thread.
        items: The items.
    """

    def __init__(self, read: Callable[[Item], Read], items: Iterable[Item]) -> None:
        self._read, self._left = read, iter(items)
        self._threads = ThreadPoolExecutor(READERS)
        self._ahead: deque[tuple[Item, Future[Read]]] = deque()

    def take(self, count: int) -> list[tuple[Item, Read]]:
        """The next items, at most so many; as many again are being read then."""
        self._fill(2 * count)
        taken = [self._ahead.popleft() for _ in range(min(count, len(self._ahead)))]
        self._fill(count)
        return [(item, future.result()) for item, future in taken]

    def close(self) -> None:
        """Read no more."""
        self._threads.shutdown(cancel_futures=True)

    def _fill(self, count: int) -> None:
        while len(self._ahead) < count:
            for item in self._left:
                self._ahead.append((item, self._threads.submit(self._read, item)))
                break
            else:
                return


@contextmanager
def written_behind(write: Callable[[Item], None]) -> Iterator[Callable[[Item], None]]:
    """For the block, write in a thread of its own, in order; at the block's end all is written.

    Yields:
        Takes what is to be written, and waits if much is waiting already.

    Raises:
        Exception: What a write raised, at the next item or at the block's end; nothing is written after it.
    """
    waiting: queue.Queue[Item | None] = queue.Queue(WAITING)
    failed: list[BaseException] = []

    def work() -> None:
        while (item := waiting.get()) is not None:
            if failed:
                continue
            try:
                write(item)
            except BaseException as error:
                failed.append(error)

    def put(item: Item) -> None:
        if failed:
            raise failed[0]
        waiting.put(item)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield put
    finally:
        waiting.put(None)
        thread.join()
    if failed:
        raise failed[0]
