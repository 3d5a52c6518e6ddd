"""Masks as image files: label maps, one file per object, one folder per object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from segspn.errors import InputError
from segspn.tracks.base import COUNTED_FROM_0, FrameMasks, Wanted, from_one, names_identity, require_ids
from segspn.tracks.match import Match
from segspn.video import is_plain_grey, list_images, read_labels, read_score_map

_VOID = 255
# More grey values than this are shades, not ids; beside white, fewer will do.
_MANY = 64
_SOME = 8
_PER_OBJECT = re.compile(r"(.+)_([0-9]+)")
_LOSSY = frozenset({".jpg", ".jpeg"})


class LabelMaps:
    """One label map per frame: ``files`` by name without suffix.

    Values are ids. In 8 bits 255 is void, unless it is the only value of all the frames, as in
    binary masks, which makes it object 1. Grey files with many values up to white are soft masks of
    one object, or binary ones with smoothed edges.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path], wanted: Wanted) -> None:
        match = wanted.names.match(files)
        wanted.names.require(match, wanted.needed, f"{folder / '{name}.png'} is missing")
        self._files = {i: files[name] for i, name in match.names.items()}
        self._wanted = wanted
        found: set[int] = set()
        for index in wanted.needed:
            labels = self._labels(index)
            found.update(np.unique(labels).tolist())
        found.discard(0)
        # 16-bit files may use 255 as an id like any other.
        wide = max(found, default=0) > _VOID
        soft = not wide and _look_soft(found) and is_plain_grey(self._files[wanted.needed[0]])
        self._one = soft or found == {_VOID}
        self.notes = _order_notes(folder, match)
        if soft:
            self.kind = "soft masks"
            self.notes += (
                f"the masks in {folder} have {len(found)} shades of grey and were read as soft masks "
                "of one object",
            )
        else:
            self.kind = "binary masks" if self._one else "label maps"
        if self._one:
            found = {1}
        elif not wide:
            found.discard(_VOID)
        self.ids = require_ids(found, folder)
        self.paths: tuple[Path, ...] = (folder,)
        self.identity = names_identity(self._files[i].name for i in wanted.needed)

    def read(self, first: int = 0) -> Iterator[FrameMasks]:
        for index in range(first, len(self._wanted.source)):
            labels = self._labels(index)
            if self._one:
                yield {1: labels.astype(np.uint8)} if labels.any() else {}
                continue
            present = np.unique(labels).tolist()
            yield {i: _as_score(labels == i) for i in self.ids if i in present}

    def _labels(self, index: int) -> np.ndarray:
        labels = read_labels(self._files[index])
        self._wanted.require_size(self._files[index], labels.shape)
        return labels


def _look_soft(values: set[int]) -> bool:
    return len(values) > _MANY or (_VOID in values and len(values) > _SOME)


class ObjectMaps:
    """A file for each object of each frame that has it: ``files`` by object id, then frame name.

    Files are soft, 0..255, or hard: an object is hard if the one value in all its files is 1, as in
    the palette files of SAM 2's scripts, or its id.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[int, Mapping[str, Path]],
        wanted: Wanted,
        kind: str,
        notes: Iterable[str] = (),
    ) -> None:
        match = wanted.names.match({name for maps in files.values() for name in maps})
        wanted.names.require(match, wanted.needed, f"{folder} has no mask for frame {{name}}")
        self._files: list[dict[int, Path]] = []
        for index in range(len(wanted.source)):
            name = match.names.get(index, "")
            self._files.append({i: maps[name] for i, maps in files.items() if name in maps})
        # Those of frames that are not selected are not objects here.
        self.ids = require_ids((i for index in wanted.needed for i in self._files[index]), folder)
        self._wanted = wanted
        read = [file for index in wanted.needed for file in self._files[index].values()]
        wanted.require_sizes(read)
        self._hard = {i for i in self.ids if self._is_hard(i)}
        self.kind = kind
        self.paths: tuple[Path, ...] = (folder, *sorted({file.parent for file in read} - {folder}))
        self.identity = names_identity(str(file.relative_to(folder)) for file in read)
        self.notes = (*notes, *_order_notes(folder, match))

    def read(self, first: int = 0) -> Iterator[FrameMasks]:
        for index in range(first, len(self._wanted.source)):
            masks: FrameMasks = {}
            for object_id, file in self._files[index].items():
                score = read_score_map(file)
                self._wanted.require_size(file, score.shape)
                masks[object_id] = _as_score(score > 0) if object_id in self._hard else score
            yield masks

    def _is_hard(self, object_id: int) -> bool:
        seen: set[int] = set()
        for index in self._wanted.needed:
            if object_id in self._files[index]:
                seen.update(np.unique(read_score_map(self._files[index][object_id])).tolist())
                seen.discard(0)
            if len(seen) > 1 or not seen <= {1, object_id}:
                return False
        return bool(seen)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The image files of ``folder`` by name without suffix, in natural order.

    A JPEG beside another file of its name, as a frame beside its mask, is left out. Raises
    `InputError` for two others of one name.
    """
    images = list_images(folder)
    lossless = {file.stem for file in images if file.suffix.lower() not in _LOSSY}
    files: dict[str, Path] = {}
    for file in images:
        if file.suffix.lower() in _LOSSY and file.stem in lossless:
            continue
        if file.stem in files:
            raise InputError(
                f"{file} and {files[file.stem].name} would be masks of one frame: remove one of them"
            )
        files[file.stem] = file
    return files


def require_lossless(files: Iterable[Path]) -> None:
    """Raise `InputError` for a JPEG, whose blended values are neither ids nor scores."""
    for file in files:
        if file.suffix.lower() in _LOSSY:
            raise InputError(f"{file} is JPEG, which blends the values of masks: save masks as PNG")


def per_object_files(
    files: Mapping[str, Path], wanted: Wanted
) -> tuple[dict[int, dict[str, Path]], list[str]] | None:
    """``files`` by object id and frame name, and notes, if some are named ``<frame>_<object>``."""
    found: dict[int, dict[str, Path]] = {}
    for stem, file in files.items():
        parts = _PER_OBJECT.fullmatch(stem)
        if parts is not None and wanted.names.knows(parts[1]):
            found.setdefault(int(parts[2]), {})[parts[1]] = file
    if not found:
        return None
    numbered = from_one(found)
    notes = [] if numbered == found else [COUNTED_FROM_0.format(file.parent)]
    return numbered, notes


def per_object_folders(folders: Sequence[Path]) -> tuple[dict[int, dict[str, Path]], list[str]]:
    """The files of one folder per object by object id and frame name, and notes about the ids.

    The id is the number that ends the folder's name (1 more if one of them is 0) if all names end
    with different ones, else 1, 2, ... in natural order.
    """
    endings = [re.search(r"[0-9]+$", folder.name) for folder in folders]
    numbers = [int(ending.group()) for ending in endings if ending]
    if len(set(numbers)) < len(folders):
        numbers = list(range(1, len(folders) + 1))
    numbered = from_one(dict(zip(numbers, folders, strict=True)))
    files: dict[int, dict[str, Path]] = {}
    for object_id, folder in sorted(numbered.items()):
        files[object_id] = images_by_stem(folder)
        require_lossless(files[object_id].values())
    if all(folder.name.lstrip("0") == str(i) for i, folder in numbered.items()):
        return files, []
    told = ", ".join(f"{folder.name} is object {i}" for i, folder in sorted(numbered.items()))
    return files, [f"folders of {folders[0].parent}: {told}"]


def _order_notes(folder: Path, match: Match) -> tuple[str, ...]:
    if not match.in_order:
        return ()
    first, last = min(match.names), max(match.names)
    return (
        f"the masks in {folder} are not named as the frames are and were taken in order, from "
        f"{match.names[first]} to {match.names[last]}",
    )


def _as_score(mask: np.ndarray) -> np.ndarray:
    scores: np.ndarray = mask.astype(np.uint8) * np.uint8(255)
    return scores
