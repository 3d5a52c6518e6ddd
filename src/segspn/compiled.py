"""numba's ``njit``, with a word when it compiles: on a new installation the first frame waits for it;
and what the processor that it compiles for can do.

What is compiled is kept beside the module, or in the user's cache folder, so it happens once.
"""

from __future__ import annotations

import logging
from typing import Any

from llvmlite import binding
from numba import njit
from numba.core import config, event

__all__ = ["njit", "processor_has"]

_log = logging.getLogger("segspn")


def processor_has(*features: str) -> bool:
    """Whether the processor that numba compiles for has all of these, by LLVM's names; False where the
    user has told numba of another processor than this one."""
    told = getattr(config, "CPU_NAME", None) or getattr(config, "CPU_FEATURES", None)
    if told or not getattr(config, "ENABLE_AVX", True):
        return False
    known = binding.get_host_cpu_features()
    return all(known.get(feature, False) for feature in features)


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
