"""The opened video: any frame, decoded when it is asked for, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

import cv2
import numpy as np

from segspn.jobs.scale import Scale
from segspn.video import Source

SHOWN_SIDE = 1600
"""Longest side of the pictures sent to the page."""

_CACHE_BYTES = 64 << 20
# Frames that are decoded on the way to one further on, rather than seeking.
_NEAR = 24
# A step back starts so many frames earlier: the next steps back find their pictures.
_LEAD = 12
_QUALITY = 88


class Clip:
    """The frames of ``source`` as JPEG pictures and as pixels; safe to use from many threads.

    Attributes: ``shown``, the scale from the frames' size to that of the pictures.
    """

    def __init__(self, source: Source, cache_bytes: int = _CACHE_BYTES) -> None:
        self.source = source
        self.shown = Scale(source.size, SHOWN_SIDE)
        self._lock = threading.Lock()
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._room = cache_bytes
        self._stream: Iterator[np.ndarray] | None = None
        self._next = 0
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def picture(self, index: int) -> bytes:
        """Frame ``index`` as a JPEG. Raises `InputError` where it is damaged."""
        with self._lock:
            if index in self._pictures:
                self._pictures.move_to_end(index)
            else:
                self._reach(index)
            return self._pictures[index]

    def pixels(self, index: int) -> np.ndarray:
        """Frame ``index``, uint8 (H, W, 3) RGB. Raises `InputError` where it is damaged."""
        with self._lock:
            if self._last is None or self._last[0] != index:
                self._reach(index)
            assert self._last is not None
            return self._last[1]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._restart(None, 0)
            self._pictures.clear()
            self._last = None

    def _reach(self, index: int) -> None:
        """Decode up to ``index``, keeping the pictures on the way."""
        stream = self._stream
        if stream is None or not self._next <= index <= self._next + _NEAR:
            back = self._next - _LEAD - 1 <= index < self._next
            start = max(0, index - _LEAD) if back else index
            stream = self.source.read(start)
            self._restart(stream, start)
        try:
            for number in range(self._next, index + 1):
                frame = next(stream)
                self._next = number + 1
                self._last = (number, frame)
                self._keep(number, frame)
        except BaseException:
            self._restart(None, 0)
            raise

    def _restart(self, stream: Iterator[np.ndarray] | None, first: int) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()
        self._stream, self._next = stream, first

    def _keep(self, number: int, frame: np.ndarray) -> None:
        if number in self._pictures:
            return
        small = cv2.cvtColor(self.shown.shrink_frame(frame), cv2.COLOR_RGB2BGR)
        self._pictures[number] = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[
            1
        ].tobytes()
        held = sum(map(len, self._pictures.values()))
        while held > self._room and len(self._pictures) > 1:
            held -= len(self._pictures.popitem(last=False)[1])
