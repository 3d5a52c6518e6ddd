"""Writing video files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.codec.codec import Codec, UnknownCodecError
from av.video.stream import VideoStream

from segspn.video.atomic import discard, temporary_name, unwritable

# Codec tag values of ITU-T H.273: BT.709 primaries, transfer and matrix; limited range.
_BT709 = 1
_LIMITED = 1


class VideoWriter:
    """An MP4 that appears under its name only when it is complete.

    H.264, or MPEG-4 part 2 where FFmpeg was built without libx264. Use as a context manager: a
    clean end renames the file into place, an exception removes what was written. Sides of odd
    length grow by one repeated row or column, since 4:2:0 video has even sides.

    ``fps`` frames per second; ``size`` (H, W) of the frames. Raises `ValueError` for a rate that is
    not positive and, on a clean end, if no frame was written; `InputError` where the folder cannot
    be written to.
    """

    def __init__(self, path: str | Path, fps: float, size: tuple[int, int]) -> None:
        if fps <= 0:
            raise ValueError(f"{path}: the frame rate must be positive, not {fps}")
        self._path = Path(path)
        # Denominators to 1001 give 24000/1001 and its kin exactly.
        self._rate = Fraction(fps).limit_denominator(1001) or Fraction(1, 1001)
        self._size = size
        self._even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._temporary = temporary_name(self._path)
        self._count = 0

    def __enter__(self) -> VideoWriter:
        with self._writing():
            # FFmpeg opens the file with the first frame only; a folder that cannot be written to
            # is better told now.
            self._temporary.touch()
            self._container = av.open(
                # Absolute: FFmpeg would take "a:b.mp4" for a protocol named "a".
                str(self._temporary.absolute()),
                "w",
                format="mp4",
                options={"movflags": "+faststart"},
            )
            self._stream = self._add_stream()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3) RGB.

        Raises `ValueError` for another shape or type, `InputError` where it cannot be written.
        """
        if frame.shape != (*self._size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"{self._path}: expected uint8 {(*self._size, 3)}, got {frame.shape}")
        grow = [(0, even - side) for even, side in zip(self._even, self._size, strict=True)]
        if any(after for _, after in grow):
            frame = np.pad(frame, (*grow, (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        # Players take untagged video for BT.709 or BT.601 by its size; converted and tagged, the
        # colours are the same everywhere.
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts = self._count
        picture.time_base = 1 / self._rate
        with self._writing():
            self._container.mux(self._stream.encode(picture))
        self._count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            # The caller's exception tells what went wrong; a trailer that fails adds nothing.
            with suppress(av.error.FFmpegError):
                self._container.close()
            discard(self._temporary)
            return
        with self._writing():
            if self._count == 0:
                raise ValueError(f"{self._path}: no frame was written to the video")
            self._container.mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._temporary, self._path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Remove the temporary file if this step fails; tell `OSError` as `InputError`."""
        try:
            yield
        except BaseException as error:
            discard(self._temporary)
            if isinstance(error, OSError):
                raise unwritable(self._path, error) from error
            raise

    def _add_stream(self) -> VideoStream:
        height, width = self._even
        try:
            Codec("libx264", "w")
        except UnknownCodecError:
            stream = self._container.add_stream("mpeg4", rate=self._rate)
            stream.bit_rate = int(0.2 * width * height * self._rate)
        else:
            stream = self._container.add_stream(
                "libx264", rate=self._rate, options={"crf": "20", "preset": "veryfast"}
            )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        # With more, one video in some hundreds has other bytes than the same one encoded again.
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        return stream
