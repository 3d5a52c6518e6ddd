"""Small synthetic clips for the tests of this room."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np


def picture(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A textured frame, uint8 (H, W, 3), different for every number; the texture moves."""
    height, width = size
    field = _texture(height, width)
    frame = np.ascontiguousarray(field[:, number % (3 * width) :][:, :width])
    # The number in binary across the top, so that no two frames can be taken for each other.
    for bit in range(8):
        frame[:6, bit * width // 8 : (bit + 1) * width // 8] = 255 * (number >> bit & 1)
    return frame


@cache
def _texture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(7).integers(0, 256, (height, 4 * width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)


def make_video(
    path: Path,
    count: int = 60,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (48, 64),
    pix_fmt: str = "yuv420p",
    rate: int = 25,
) -> Path:
    """Encode ``count`` pictures to ``path``; the suffix chooses the container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], pix_fmt
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def decode_all(path: Path) -> list[np.ndarray]:
    """Every frame by plain sequential decoding: the truth that seeking is measured by."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
