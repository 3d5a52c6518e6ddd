"""Small inputs: a folder of frames, its mask, and what a run left behind."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

from segspn.video import VideoWriter, write_labels

SIZE = (48, 64)


def frame(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return np.array(Image.fromarray(small).resize(size[::-1], Image.Resampling.BILINEAR))


def make_frames(folder: Path, count: int = 12, size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(frame(number, size)).save(folder / f"{number:05d}.png")
    return folder


def make_video(path: Path, count: int = 12) -> Path:
    with VideoWriter(path, 25, SIZE) as writer:
        for number in range(count):
            writer.write(frame(number))
    return path


def mask_labels(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Two objects with ids that are not contiguous."""
    labels = np.zeros(size, np.int32)
    labels[size[0] // 4 : size[0] // 2, size[1] // 8 : size[1] // 2] = 2
    labels[size[0] // 2 : -4, size[1] // 2 : -8] = 7
    return labels


def make_mask(path: Path, size: tuple[int, int] = SIZE) -> Path:
    write_labels(path, mask_labels(size))
    return path


def contents(folder: Path) -> dict[str, bytes | Film]:
    """Every file below ``folder`` by relative path; ``run.json``, which tells times, left out."""
    return {
        str(path.relative_to(folder)): Film.read(path) if path.suffix == ".mp4" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


class Film:
    """A video by its frames' times and pictures, in place of its bytes.

    x264 encodes the same pictures otherwise once in 40 to 300 times, with one thread too: single pixels
    then differ by up to 52, means of 8x8 pixels by up to 15, all through the video. An object drawn in
    another place, or in another colour, makes them differ by 70 and more.
    """

    def __init__(self, times: list[int | None], means: np.ndarray) -> None:
        self.times, self.means = times, means

    @classmethod
    def read(cls, path: Path) -> Film:
        with av.open(str(path)) as video:
            frames = [(f.pts, f.to_ndarray(format="rgb24")) for f in video.decode(video=0)]
        pictures = np.stack([picture for _, picture in frames]).astype(np.float32)
        count, height, width, _ = pictures.shape
        tiles = pictures[:, : height // 8 * 8, : width // 8 * 8]
        means = tiles.reshape(count, height // 8, 8, width // 8, 8, 3).mean((2, 4))
        return cls([time for time, _ in frames], means)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Film)
            and self.times == other.times
            and self.means.shape == other.means.shape
            and float(np.abs(self.means - other.means).max()) < 40
        )


def picture_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)
