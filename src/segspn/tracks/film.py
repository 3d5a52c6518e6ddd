"""Masks as a video file: black and white, or grey for soft ones, of one object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segspn.errors import InputError
from segspn.tracks.base import FrameMasks, Wanted, file_identity, require_ids
from segspn.video import Source, open_source

# Codecs move values by less than this, and compression rings by more in few pixels only.
_NEAR = 32
_FEW = 0.02
_HALF = 128


class MaskVideo:
    """A video of grey pictures, of one object, aligned with the frames.

    Nearly all pixels black or white: a hard mask, true from half on, whatever the codec did to its
    edges. Otherwise a soft one, whose grey is the score.
    """

    ids: tuple[int, ...] = (1,)

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._path = path
        self._video, self._numbers = _aligned(path, wanted)
        wanted.require_size(path, self._video.size)
        self._soft = self._look(wanted.needed)
        self.kind = "soft mask video" if self._soft else "mask video"
        self.paths: tuple[Path, ...] = (path,)
        self.identity = file_identity(path)
        self.notes: tuple[str, ...] = ()

    def read(self, first: int = 0) -> Iterator[FrameMasks]:
        for frame in self._frames(first):
            grey = frame[..., 1]
            score = grey if self._soft else np.where(grey >= _HALF, np.uint8(255), np.uint8(0))
            yield {1: score} if score.any() else {}

    def _look(self, needed: range) -> bool:
        """Whether the masks are soft. Raises `InputError` for colours and for black alone."""
        between = bright = total = 0
        for frame in self._frames(needed[0]):
            spread = frame.max(2).astype(np.int16) - frame.min(2)
            if np.count_nonzero(spread > 2 * _NEAR) > _FEW * spread.size:
                raise InputError(
                    f"{self._path} is in colour, not a video of masks: give black and white for one "
                    "object, or PNG label maps for several"
                )
            grey = frame[..., 1]
            between += int(np.count_nonzero((grey >= _NEAR) & (grey < 256 - _NEAR)))
            bright += int(np.count_nonzero(grey >= _HALF))
            total += grey.size
        if not bright:
            require_ids((), self._path)
        # Compared with the object, not the picture: soft edges are few pixels of a small object.
        return between > max(_FEW * total, bright / 2)

    def _frames(self, first: int) -> Iterator[np.ndarray]:
        step = self._numbers.step
        video = open_source(self._path, self._numbers[first], self._numbers[-1] + 1, step)
        return video.read()


def _aligned(path: Path, wanted: Wanted) -> tuple[Source, range]:
    """The video and the numbers of its frames that belong to the selected ones."""
    video = open_source(path)
    source = wanted.source
    if len(video) == len(source):
        return video, range(len(video))
    total = len(open_source(source.spec))
    if len(video) == total:
        return video, source.numbers
    raise InputError(
        f"{path} has {len(video)} frames but {source.spec} has {total}"
        + (f", of which {len(source)} are selected" if total != len(source) else "")
        + ": give a video of masks with one for each frame"
    )
