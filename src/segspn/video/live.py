"""Live sources: cameras and streams, and a policy for those that are faster than the work.

A file waits until one has read it; a camera does not. `Newest` keeps the newest frame only and drops
the others, so that what comes out is never older than the work on one frame takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from segspn.errors import InputError
from segspn.video.source import open_source

_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")
_TIMEOUT = 10.0  # seconds without an answer from a stream


def live_frames(spec: str | int | Path) -> Iterator[np.ndarray]:
    """Frames uint8 RGB ``(H, W, 3)`` of a camera, a stream or a file, as they come.

    ``spec``: a camera's number (``0``), the address of an RTSP, HTTP, UDP or SRT stream, or anything
    that `open_source` reads, which is then played at its own speed. Raises `InputError` where it cannot
    be opened, and, while iterating, where a stream breaks off.
    """
    told = str(spec)
    if told.isdecimal():
        return _camera(int(told))
    if told.lower().startswith(_SCHEMES):
        return _stream(told)
    source = open_source(told)
    return paced(source.read(), source.fps)


def paced(frames: Iterator[np.ndarray], fps: float) -> Iterator[np.ndarray]:
    """``frames``, each no sooner than it is due at ``fps`` frames a second."""
    begun = time.monotonic()
    for k, frame in enumerate(frames):
        time.sleep(max(0.0, begun + k / fps - time.monotonic()))
        yield frame


def _camera(number: int) -> Iterator[np.ndarray]:
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise InputError(f"camera {number} cannot be opened: is it connected, and not in use?")
    return _frames_of(camera, number)


def _frames_of(camera: cv2.VideoCapture, number: int) -> Iterator[np.ndarray]:
    try:
        while True:
            there, frame = camera.read()
            if not there:
                raise InputError(f"camera {number} gives no more frames: is it still connected?")
            yield np.ascontiguousarray(frame[..., ::-1])
    finally:
        camera.release()


def _stream(address: str) -> Iterator[np.ndarray]:
    options = {"rtsp_transport": "tcp", "fflags": "nobuffer"} if address.startswith("rtsp") else {}
    try:
        container = av.open(address, options=options, timeout=_TIMEOUT)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{address} cannot be opened: {error}") from error
    if not container.streams.video:
        container.close()
        raise InputError(f"{address} has no video")
    return _decoded(container, address)


def _decoded(container: av.container.InputContainer, address: str) -> Iterator[np.ndarray]:
    try:
        for packet in container.demux(container.streams.video[0]):
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                continue  # a lost packet damages a few frames, not the stream
            for picture in pictures:
                yield picture.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{address} broke off: {error}") from error
    finally:
        container.close()


class Newest:
    """The newest frame of a live source, whenever one asks: an iterator that drops what is between.

    ``frames`` is read in a thread of its own, as fast as it gives frames; one frame at most waits.
    Iterating waits for a frame that has not been handed out yet. At the end of ``frames`` the last one
    is still handed out; an exception in it is raised here. ``dropped`` counts the frames that nobody
    asked for in time.

    >>> with Newest(live_frames(0)) as frames:
    ...     for frame in frames:
    ...         result = session.step(frame)
    """

    def __init__(self, frames: Iterator[np.ndarray]) -> None:
        self.dropped = 0
        self._frames = frames
        self._changed = threading.Condition()
        self._waiting: np.ndarray | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="segspn-live", daemon=True)
        self._thread.start()

    def __iter__(self) -> Newest:
        return self

    def __next__(self) -> np.ndarray:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._ended)
            frame, self._waiting = self._waiting, None
            if frame is not None:
                return frame
            if self._error is not None:
                raise self._error
            raise StopIteration

    def close(self) -> None:
        """Stop reading. A source that is waiting for a frame ends with that frame."""
        with self._changed:
            self._ended, self._waiting = True, None
            self._changed.notify_all()

    def __enter__(self) -> Newest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._ended:
                        return
                    self.dropped += self._waiting is not None
                    self._waiting = frame
                    self._changed.notify_all()
        except BaseException as error:  # handed over and raised in the consumer
            self._error = error
        finally:
            close = getattr(self._frames, "close", None)
            if close is not None:
                with suppress(Exception):
                    close()  # in the thread that read it
            with self._changed:
                self._ended = True
                self._changed.notify_all()
