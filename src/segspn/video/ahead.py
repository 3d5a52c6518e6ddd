"""Decoding the next frame while the caller works on this one."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def prefetch(iterator: Iterator[T], depth: int = 2) -> Generator[T]:
    """The items of ``iterator``, produced up to ``depth`` ahead in a background thread.

    The thread starts with the first item asked for and ends with the last, or when the consumer
    stops early (closes or drops this generator), closing ``iterator`` if it can be closed. An
    exception in ``iterator`` is raised here, after the items before it. Raises `ValueError` for a
    depth below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    return _prefetched(iterator, depth)


def _prefetched(iterator: Iterator[T], depth: int) -> Generator[T]:
    items: SimpleQueue[tuple[bool, T | BaseException | None]] = SimpleQueue()
    room = threading.Semaphore(depth)
    stopped = threading.Event()

    def produce() -> None:
        try:
            try:
                while room.acquire() and not stopped.is_set():
                    items.put((True, next(iterator)))
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()  # in the thread that ran it, so that it is never closed mid-step
        except StopIteration:
            items.put((False, None))
        except BaseException as error:  # handed over and raised in the consumer
            items.put((False, error))

    thread = threading.Thread(target=produce, name="segspn-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, item = items.get()
            if not more:
                if item is not None:
                    raise item  # type: ignore[misc]
                return
            room.release()
            yield item  # type: ignore[misc]
            # Without this the frame would live on, one more than the caller knows of.
            del item
    finally:
        stopped.set()
        room.release()
        thread.join()
