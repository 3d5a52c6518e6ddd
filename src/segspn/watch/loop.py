"""The loop between a live source and its viewers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from segspn.errors import InputError
from segspn.video import overlay

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter, Session

Box = tuple[float, float, float, float]
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]


@dataclass(frozen=True)
class Status:
    """What the page tells: ``frame`` its number, ``ids`` the objects, ``seconds`` for a frame, ``note``
    what was wrong with the last box, if anything."""

    frame: int = 0
    ids: tuple[int, ...] = ()
    seconds: float = 0.0
    note: str = ""


class Watch:
    """Follow objects in frames as they come, and keep the newest picture for anybody who looks.

    Boxes may come at any time, from any thread; each starts an object in the picture that is shown.
    """

    def __init__(self, segmenter: Segmenter, max_side: int = 640) -> None:
        """``max_side``: larger frames are shrunk to this longest side."""
        self._segmenter, self._max_side = segmenter, max_side
        self._boxes: queue.SimpleQueue[Box | None] = queue.SimpleQueue()
        self._session: Session | None = None
        self._shown: np.ndarray | None = None
        self._changed = threading.Condition()
        self._jpeg, self._count = b"", 0
        self.status = Status()
        self.ended = False

    def add(self, box: Box) -> None:
        """Start an object: ``box`` is (x0, y0, x1, y1) in shares of the picture's sides, 0..1."""
        self._boxes.put(box)

    def clear(self) -> None:
        """Stop following all objects."""
        self._boxes.put(None)

    def picture(self, after: int, timeout: float = 1.0) -> tuple[int, bytes]:
        """The newest picture as JPEG and its count, once that is above ``after``, or after ``timeout``
        seconds whatever it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > after or self.ended, timeout)
            return self._count, self._jpeg

    def run(self, frames: Iterable[np.ndarray]) -> None:
        """Go through ``frames``, uint8 RGB ``(H, W, 3)`` of one size, until they end."""
        try:
            for frame in frames:
                self._take_boxes()
                self._show(self._shrunk(frame))
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _take_boxes(self) -> None:
        while self._shown is not None:
            try:
                box = self._boxes.get_nowait()
            except queue.Empty:
                return
            if box is None:
                self._session = None
            else:
                self._start(box)

    def _start(self, box: Box) -> None:
        assert self._shown is not None
        h, w = self._shown.shape[:2]
        session = self._session or self._segmenter.session(keep=1)
        try:
            session.annotate(self._shown, box=(box[0] * w, box[1] * h, box[2] * w, box[3] * h))
        except InputError as error:
            self.status = Status(self._count, self.status.ids, self.status.seconds, str(error))
        else:
            self._session = session

    def _show(self, frame: np.ndarray) -> None:
        begun = time.perf_counter()
        picture, ids = frame, tuple[int, ...]()
        if self._session is not None:
            result = self._session.step(frame)
            ids = result.ids
            picture = overlay(frame, result.labels, ids)
        jpeg = cv2.imencode(".jpg", picture[..., ::-1], _QUALITY)[1].tobytes()
        self._shown = frame
        with self._changed:
            self._jpeg, self._count = jpeg, self._count + 1
            seconds = time.perf_counter() - begun
            self.status = Status(self._count, ids, seconds, self.status.note if not ids else "")
            self._changed.notify_all()

    def _shrunk(self, frame: np.ndarray) -> np.ndarray:
        scale = self._max_side / max(frame.shape[:2])
        if scale >= 1:
            return frame
        h, w = (max(1, round(scale * n)) for n in frame.shape[:2])
        return cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)
