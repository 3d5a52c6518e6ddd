"""Freed memory, given back to the system.

Frames, crops and objects of ever other sizes leave glibc's heap full of holes that it keeps: over 10,000
frames the process grew by a third while what it used stayed the same. Given back every ten frames it
grows by a sixth, most of it in the first 500 frames, at six milliseconds each time; the holes come
again, so that this slows the growth but does not end it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable


def _trimmer() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
    return trim  # type: ignore[no-any-return]


_trim = _trimmer()


def give_back() -> None:
    """Where the C library can."""
    if _trim is not None:
        _trim(0)
