"""numba's ``njit``, with a word when it compiles: on a new installation the first frame waits for it.

What is compiled is kept beside the module, or in the user's cache folder, so it happens once.
"""

from __future__ import annotations

import logging
from typing import Any

from numba import njit
from numba.core import event

__all__ = ["njit"]

_log = logging.getLogger("segspn")


class _Notice(event.Listener):
    """Says so the first time."""

    said = False

    def on_start(self, event: Any) -> None:
        if not self.said:
            self.said = True
            _log.info("compiling for this processor, once: about ten seconds")

    def on_end(self, event: Any) -> None:
        pass


_notice = _Notice()
event.register("numba:compile", _notice)
