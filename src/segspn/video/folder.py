"""Frames from image files: a folder, a glob or a single picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segspn.errors import InputError
from segspn.video.images import header_size, read_rgb

# Image files carry no rate; this is cinema's, and DAVIS's own.
FOLDER_FPS = 24.0


class ImageFrames:
    """Image files as frames: ``files`` in playing order, at least one."""

    fps = FOLDER_FPS

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self.size: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self._files)

    def select(self, numbers: range) -> list[str]:
        """Settle on the frames ``numbers``: check their sizes, set `size`, give output stems.

        Sizes come from the headers, so a misfit among thousands of files is told before any work
        is done. Raises `InputError` for an unreadable file, for a file of another size than the
        first and for two files that would share an output name.
        """
        first = self._files[numbers[0]]
        self.size = header_size(first)
        for number in numbers[1:]:
            size = header_size(self._files[number])
            if size != self.size:
                raise InputError(_odd_size(self._files[number], size, first, self.size))
        if not all(f.stem.isascii() and f.stem.isdigit() for f in self._files):
            return [f"{number:05d}" for number in numbers]
        taken: dict[str, Path] = {}
        for number in numbers:
            file = self._files[number]
            if file.stem in taken:
                raise InputError(
                    f"{file} and {taken[file.stem]} would share one output name: rename one"
                )
            taken[file.stem] = file
        return list(taken)

    def stem(self, number: int) -> str:
        """File name of a frame, without suffix."""
        return self._files[number].stem

    def read(self, numbers: range) -> Iterator[np.ndarray]:
        """Frames uint8 (H, W, 3) RGB by frame number. Raises `InputError` for a damaged file."""
        for number in numbers:
            frame = read_rgb(self._files[number])
            if frame.shape[:2] != self.size:
                # The header was right when the source was opened: the file has changed since.
                raise InputError(
                    _odd_size(self._files[number], frame.shape[:2], self._files[0], self.size)
                )
            yield frame


def _odd_size(file: Path, size: tuple[int, ...], first: Path, wanted: tuple[int, int]) -> str:
    return (
        f"{file} is {size[1]}x{size[0]} but {first.name} is {wanted[1]}x{wanted[0]}: "
        "all frames must have one size; resize or remove it"
    )
