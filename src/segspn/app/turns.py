"""A lock that is fair: whoever waits longest is next."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """Use as a context manager around work that must not run side by side.

    A plain lock may go to the same thread again and again: a run, which lets go of it for an
    instant between two frames, would keep a click of another page waiting for seconds.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()  # taken stays true: it is handed over
            else:
                self._taken = False
