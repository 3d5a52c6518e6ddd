"""Folders in the authors' naming: ``%05d.png`` per frame, ``%05d_<object>.png`` per object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from segspn.errors import InputError
from segspn.jobs.layout import make_folders
from segspn.video import read_score_map

_PER_OBJECT = re.compile(r"(\d+)_(\d+)\.png")


class ScoreMaps:
    """The score maps in a folder.

    ``names`` the frames to read (None: all that are there, in order, frame 0 left out if it is
    ``annotated``), ``ids`` the objects (None: all of these frames). Raises `InputError` if there
    are none or one is missing.

    Attributes:
        names: stems of the frames, in order.
        ids: the objects, ascending.
    """

    def __init__(
        self,
        folder: str | Path,
        names: Sequence[str] | None = None,
        ids: Iterable[int] | None = None,
        annotated: bool = False,
    ) -> None:
        self.folder = Path(folder)
        found = {(m[1], int(m[2])) for m in _matches(self.folder)}
        there = sorted({name for name, _ in found if int(name) or not annotated}, key=int)
        if not there:
            raise InputError(f"{folder} holds no score maps: name them like 00001_2.png")
        self.names = tuple(there if names is None else names)
        seen = {object_id for name, object_id in found if name in set(self.names)}
        self.ids = tuple(sorted(seen if ids is None else ids))
        for name in self.names:
            for object_id in self.ids or (1,):
                if (name, object_id) not in found:
                    raise InputError(
                        f"{self._path(name, object_id)} is missing: frames {self.names[0]} to "
                        f"{self.names[-1]} need a score map of every object, add it"
                    )

    def read(self, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """Scores of one frame, uint8 (N, H, W).

        Raises `InputError` for a map of another size than ``size`` (H, W) or than its neighbours.
        """
        maps: list[np.ndarray] = []
        for object_id in self.ids:
            path = self._path(name, object_id)
            score = read_score_map(path)
            require_size(path, score, size or score.shape)
            size = (score.shape[0], score.shape[1])
            maps.append(score)
        return np.stack(maps)

    def _path(self, name: str, object_id: int) -> Path:
        return self.folder / f"{name}_{object_id}.png"


class NumberedFiles:
    """Where a stage writes its files; the folder is made with the first of them.

    ``pattern`` matches the names of this stage's files: if some are there already, they are
    removed then, or, without ``overwrite``, `InputError` is raised at once. ``inputs`` are folders
    that are read, none of which may be the one that is written.
    """

    def __init__(
        self, folder: str | Path, pattern: str, overwrite: bool, inputs: Iterable[Path] = ()
    ) -> None:
        self.folder = Path(folder)
        self._pattern = re.compile(pattern)
        self._ready = False
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{folder} is not a folder: choose another one with --out")
        for given in inputs:
            if given.resolve() == self.folder.resolve():
                raise InputError(
                    f"{given} is an input and would be written to: choose another folder with --out"
                )
        if not overwrite and self._present():
            raise InputError(
                f"{folder} holds results of this stage already: give --overwrite to replace them"
            )

    def path(self, name: str) -> Path:
        """The path of one file, whose folder is there now."""
        if not self._ready:
            make_folders([self.folder])
            for file in self._present():
                file.unlink()
            self._ready = True
        return self.folder / name

    def _present(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [p for p in self.folder.iterdir() if self._pattern.fullmatch(p.name)]


PER_FRAME = r"\d+\.png"
PER_OBJECT = r"\d+_\d+\.png"


def require_size(path: Path, picture: np.ndarray, size: tuple[int, ...]) -> None:
    """Raise `InputError`, telling both, if ``picture`` is not of ``size`` (H, W)."""
    if picture.shape != tuple(size):
        raise InputError(
            f"{path} is {picture.shape[1]}x{picture.shape[0]} but {size[1]}x{size[0]} is needed: "
            "resize it or choose the frames it belongs to"
        )


def _matches(folder: Path) -> Iterable[re.Match[str]]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder of the score maps")
    return (m for m in map(_PER_OBJECT.fullmatch, (p.name for p in folder.iterdir())) if m)
