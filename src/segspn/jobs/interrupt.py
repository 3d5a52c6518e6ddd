"""Ctrl-C between frames, never inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interrupted(KeyboardInterrupt):
    """A job was stopped by Ctrl-C; the message is one line that tells how to go on."""


class CtrlC:
    """Holds Ctrl-C back while state changes. A context manager around the whole job.

    Inside ``with ctrl_c.held():`` the first Ctrl-C waits for the end of the block; a second one
    does not wait. Everywhere else Ctrl-C raises `KeyboardInterrupt` at once. In a thread that is
    not the main one, where Python delivers no signals, this does nothing.

    Attributes:
        torn: a second Ctrl-C broke into a held block, whose state is therefore of no use.
    """

    def __init__(self) -> None:
        self.torn = False
        self._held = False
        self._asked = False
        self._installed = False

    def __enter__(self) -> CtrlC:
        # A parent may have told us to ignore Ctrl-C (nohup, a background job): leave it so.
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if usual and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold Ctrl-C back until the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held and not self._asked:
            self._asked = True
            return
        self.torn = self._held
        raise KeyboardInterrupt
