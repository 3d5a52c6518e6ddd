"""One face for every kind of input: a video file, a folder, a glob, a picture."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from segspn.errors import InputError
from segspn.video.file import VideoFrames
from segspn.video.folder import ImageFrames
from segspn.video.images import IMAGE_SUFFIXES, list_images, natural_key


class Frames(Protocol):
    """What a kind of input must offer; frames are numbered from 0 as they lie in the source."""

    size: tuple[int, int]
    fps: float

    def __len__(self) -> int: ...

    def select(self, numbers: range) -> list[str]: ...

    def stem(self, number: int) -> str | None: ...

    def read(self, numbers: range) -> Iterator[np.ndarray]: ...


class Source:
    """The selected frames of an input, read as streams; made by `open_source`.

    Attributes:
        spec: the input as the user gave it.
        numbers: source frame number of each selected frame.
        names: output stem of each selected frame.
        stems: the frames' own file names without suffix; None where frames have no files.
        size: (H, W).
        fps: frames per second of the source itself; a stride does not change it.
    """

    def __init__(self, spec: str, frames: Frames, numbers: range) -> None:
        self.spec = spec
        self.numbers = numbers
        self.names: list[str] = frames.select(numbers)
        stems = [frames.stem(number) for number in numbers]
        self.stems = None if None in stems else [str(stem) for stem in stems]
        self.size: tuple[int, int] = frames.size
        self.fps: float = frames.fps
        self._frames = frames

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, first: int = 0, stop: int | None = None, step: int = 1) -> Iterator[np.ndarray]:
        """Frames uint8 (H, W, 3) RGB, C-contiguous, by selected index.

        With ``step`` 1: first, first+1, ... stop-1 (None: to the last). With ``step`` -1: first,
        first-1, ... stop+1 (None or -1: to index 0). Memory does not grow with the length; each
        call is a stream of its own.

        Raises `ValueError` for another step and `IndexError` for indices outside 0..len-1 (at
        once); `InputError` when a damaged frame is reached (while iterating).
        """
        if step not in (1, -1):
            raise ValueError(f"step must be 1 or -1, not {step}")
        if stop is None:
            stop = len(self) if step == 1 else -1
        indices = range(first, stop, step)
        if indices and not (0 <= min(indices) and max(indices) < len(self)):
            raise IndexError(f"frames {first}..{stop} asked for, but there are {len(self)}")
        # Not a slice: a descending slice cannot end below index 0.
        wanted = [self.numbers[i] for i in (indices[0], indices[-1])] if indices else []
        if not wanted:
            return iter(())
        stride = self.numbers.step * step
        return self._frames.read(range(wanted[0], wanted[1] + step, stride))


def open_source(spec: str | Path, start: int = 0, end: int | None = None, stride: int = 1) -> Source:
    """Open a video file, a folder of images (a DAVIS sequence is one), a glob or one image.

    ``start``, ``end`` (exclusive; beyond the last frame means to the last) and ``stride`` select
    frames by their number in the source. Sizes of image files are checked here; damage inside a
    file is found when the frame is read.

    Raises `InputError` for a missing path, an unreadable file, no frames, frames of different
    sizes and a selection that is negative or empty (telling the number of frames).
    """
    if stride < 1:
        raise InputError(f"stride must be at least 1, not {stride}")
    hopeless = start < 0 or (end is not None and end <= start)
    frames = _find_frames(spec, limit=None if hopeless else end)
    # A limit may cut the count at `end`, but then `start` lies below it.
    total = len(frames)
    if hopeless or start >= total:
        asked = f"frame {start} to {'the last' if end is None else f'before {end}'}"
        raise InputError(f"{spec} has {total} frames, and {asked} selects none: choose 0 <= start < end")
    stop = total if end is None else min(end, total)
    return Source(str(spec), frames, range(start, stop, stride))


def _find_frames(spec: str | Path, limit: int | None) -> Frames:
    path = Path(spec)
    if path.is_dir():
        files = list_images(path)
        if not files:
            raise InputError(
                f"the folder {path} holds no images: give a folder of "
                f"{', '.join(sorted(s[1:] for s in IMAGE_SUFFIXES))} files"
            )
        return ImageFrames(files)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageFrames([path])
        return VideoFrames(path, limit)
    if path.exists():
        raise InputError(f"{path} is neither a file nor a folder: give a video or images")
    if not glob.has_magic(str(spec)):
        raise InputError(f"{path} does not exist: check the path")
    found = (Path(name) for name in glob.glob(str(spec), recursive=True))
    images = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not images:
        raise InputError(f"no image matches {spec}: check the pattern")
    return ImageFrames(sorted(images, key=lambda p: natural_key(str(p))))
