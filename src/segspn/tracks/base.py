"""What all kinds of masks have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from segspn.errors import InputError
from segspn.tracks.match import FrameNames
from segspn.video import LARGEST_ID, MOST_OBJECTS, Source, header_size

T = TypeVar("T")

COUNTED_FROM_0 = "the objects in {} count from 0, which is background, and became 1 and up"

FrameMasks = dict[int, np.ndarray]
"""The masks of one frame by object id, uint8 (H, W), 255 for certain; only objects that have one."""


class Tracks(Protocol):
    """The masks of every selected frame of a video, made by any tool; see `open_tracks`.

    Attributes:
        kind: what they were taken for, a few words.
        ids: the objects, ascending.
        paths: the file or folders that are read.
        identity: what tells that they have changed.
        notes: what the user should know about how they were read, one line each.
    """

    kind: str
    ids: tuple[int, ...]
    paths: tuple[Path, ...]
    identity: str
    notes: tuple[str, ...]

    def read(self, first: int = 0) -> Iterator[FrameMasks]:
        """The masks of frame ``first``, by selected index, and of those after it; a stream.

        Raises `InputError` for a damaged file (while iterating).
        """


@dataclass(frozen=True)
class Wanted:
    """The frames that masks are for.

    ``annotated``: the first frame has an annotation of its own, so that its masks don't count.
    ``resize``: accept masks of another size.
    """

    source: Source
    names: FrameNames
    annotated: bool = False
    resize: bool = False

    @property
    def needed(self) -> range:
        """Selected indices that masks are read for."""
        return range(1 if self.annotated else 0, len(self.source))

    def require_size(self, path: Path, size: tuple[int, ...], what: str = "is") -> None:
        """Raise `InputError`, telling both sizes, unless masks of ``size`` (H, W) will do."""
        if not self.resize and tuple(size) != self.source.size:
            height, width = self.source.size
            raise InputError(
                f"{path} {what} {size[1]}x{size[0]} but {width}x{height} is needed: resize it, "
                "choose the frames it belongs to, or pass --resize-mask"
            )

    def require_sizes(self, files: Iterable[Path]) -> None:
        """`require_size` for image files, by their headers."""
        for file in files:
            self.require_size(file, header_size(file))


def require_ids(ids: Iterable[int], path: Path) -> tuple[int, ...]:
    """``ids`` ascending. Raises `InputError` for none, too many or impossible ones."""
    found = tuple(sorted(set(ids)))
    if not found:
        raise InputError(f"{path} marks no object in any frame: nothing is to be refined")
    if found[0] < 1 or found[-1] > LARGEST_ID:
        wrong = found[0] if found[0] < 1 else found[-1]
        raise InputError(f"{path} has an object {wrong}: number objects from 1 to {LARGEST_ID}")
    if len(found) > MOST_OBJECTS:
        raise InputError(
            f"{path} has {len(found)} objects, and at most {MOST_OBJECTS} can be refined: leave some "
            "out; soft maps need one file for each object"
        )
    return found


def from_one(objects: Mapping[int, T]) -> dict[int, T]:
    """``objects`` by id, each id 1 more if one of them is 0, which is background's."""
    shift = 1 if 0 in objects else 0
    return {object_id + shift: item for object_id, item in objects.items()}


def names_identity(names: Iterable[str]) -> str:
    """A digest of file names: pixels don't count, so that a damaged file can be replaced."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def file_identity(path: Path) -> str:
    """A file's size and time."""
    status = path.stat()
    return f"{status.st_size} bytes, modified {status.st_mtime_ns}"
