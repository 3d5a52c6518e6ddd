"""What a user has made of one video: objects, drawn masks, tracked masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segspn.app.review import Look, look
from segspn.errors import InputError
from segspn.video import read_labels, read_score_map, write_labels, write_score_map

MOST_OBJECTS = 254
_NAME_LENGTH = 60
_UNDO = 100


@dataclass
class Thing:
    """An object. ``id`` is its own for good; ``colour`` its index in the VOC palette, 1..254, which
    is also its number in exported files; ``removed`` ones are hidden until that is undone."""

    id: int
    name: str
    colour: int
    removed: bool = False


@dataclass(frozen=True)
class _Before:
    """What undo puts back: a frame's drawn mask (None: there was none), or a removed object."""

    frame: int | None
    drawn: tuple[bytes, frozenset[int]] | None
    removed: int | None


class Project:
    """Masks lie in files under ``folder``; what is small is held in memory.

    A frame has what was tracked there, and over it what the user drew: a drawn mask tells all about
    the objects it was drawn for, absence too, and nothing about others. Objects are numbered by
    their ids in here. ``size`` (H, W) of the frames, ``count`` their number.

    Attributes:
        things: objects by id, removed ones included.
        drawn: frame -> objects that were drawn there.
        looks: frame -> object -> what there is to see of it, for every frame with a mask.
        cuts: frames that show another scene than the frame before, as far as runs have found.
    """

    def __init__(self, folder: Path, size: tuple[int, int], count: int) -> None:
        self.size, self.count = size, count
        self.things: dict[int, Thing] = {}
        self.drawn: dict[int, frozenset[int]] = {}
        self.looks: dict[int, dict[int, Look]] = {}
        self.cuts: set[int] = set()
        self._tracked: dict[int, tuple[int, ...]] = {}  # frame -> objects with a score map
        self._folders = {kind: folder / kind for kind in ("drawn", "tracked", "scores")}
        for path in self._folders.values():
            path.mkdir(parents=True, exist_ok=True)
        self._undo: list[_Before] = []

    # Objects

    @property
    def present(self) -> list[Thing]:
        """The objects that are not removed, by id."""
        return [thing for thing in self.things.values() if not thing.removed]

    def thing(self, object_id: int) -> Thing:
        """Raises `InputError` if it is not there."""
        found = self.things.get(object_id)
        if found is None or found.removed:
            raise InputError("that object is not there any more: choose another one")
        return found

    def add(self, name: str = "", colour: int | None = None, object_id: int | None = None) -> Thing:
        """A new object; raises `InputError` for a taken colour or too many objects."""
        number = max(self.things, default=0) + 1 if object_id is None else object_id
        if number > MOST_OBJECTS:
            raise InputError(f"at most {MOST_OBJECTS} objects fit into one project")
        taken = {thing.colour for thing in self.present}
        free = next(c for c in range(1, MOST_OBJECTS + 2) if c not in taken)
        thing = Thing(number, "", free)
        self.things[number] = thing
        self.change(thing.id, name=name or f"object {number}", colour=colour)
        return thing

    def change(self, object_id: int, name: str | None = None, colour: int | None = None) -> None:
        """Rename or recolour; raises `InputError` for an empty name, a taken or unknown colour."""
        thing = self.thing(object_id)
        if name is not None:
            clean = " ".join("".join(c for c in name if c.isprintable()).split())[:_NAME_LENGTH]
            if not clean:
                raise InputError("an object needs a name")
            thing.name = clean
        if colour is not None:
            if not 1 <= colour <= MOST_OBJECTS:
                raise InputError(f"colours are those of the VOC palette, 1 to {MOST_OBJECTS}")
            if any(t.colour == colour and t.id != object_id for t in self.present):
                raise InputError("another object has that colour already")
            thing.colour = colour

    def remove(self, object_id: int) -> None:
        """Hide an object everywhere; undo brings it back."""
        self.thing(object_id).removed = True
        self._remember(_Before(None, None, object_id))

    # Masks

    def labels(self, frame: int) -> np.ndarray:
        """What is shown in a frame, int32 (H, W), of the objects that are not removed."""
        labels = self._composed(frame)
        gone = [thing.id for thing in self.things.values() if thing.removed]
        if gone:
            labels[np.isin(labels, gone)] = 0
        return labels

    def scores(self, frame: int, ids: Iterable[int]) -> np.ndarray:
        """Scores float32 (N, H, W) of objects: what was tracked, or 0 and 1 where it was drawn."""
        labels = self._composed(frame)
        maps: list[np.ndarray] = []
        for object_id in ids:
            tracked = object_id in self._tracked.get(frame, ())
            if object_id in self.drawn.get(frame, ()) or not tracked:
                maps.append((labels == object_id).astype(np.float32))
                continue
            score: np.ndarray = read_score_map(self._score_file(frame, object_id)) / np.float32(255)
            if score.shape != self.size:
                score = cv2.resize(score, self.size[::-1], interpolation=cv2.INTER_LINEAR)
            maps.append(score)
        return np.stack(maps) if maps else np.zeros((0, *self.size), np.float32)

    def paint(self, frame: int, object_id: int, mask: np.ndarray, on: bool) -> None:
        """Give the pixels of ``mask`` bool (H, W) to an object, or take them from it."""
        labels = self.labels(frame)
        if on:
            labels[mask] = object_id
        else:
            labels[mask & (labels == object_id)] = 0
        self._draw(frame, object_id, labels)

    def replace(self, frame: int, object_id: int, mask: np.ndarray) -> None:
        """Make ``mask`` bool (H, W) the whole of an object."""
        labels = self.labels(frame)
        labels[labels == object_id] = 0
        labels[mask] = object_id
        self._draw(frame, object_id, labels)

    def clear(self, frame: int) -> None:
        """Take back everything that was drawn in a frame; what was tracked there shows again."""
        if frame in self.drawn:
            self._remember(self._before(frame))
            self._put_back(frame, None)
    
    def track(self, frame: int, labels: np.ndarray, scores: np.ndarray, ids: tuple[int, ...]) -> None:
        """Keep a result: ``labels`` int32 (H, W), ``scores`` float32 (N, h, w) of any size."""
        write_labels(self._file("tracked", frame), labels, wide=False)
        for object_id, score in zip(ids, scores, strict=True):
            write_score_map(self._score_file(frame, object_id), np.clip(score, 0, 1))
        self._tracked[frame] = ids
        self._look_again(frame)

    def note_cut(self, frame: int, cut: bool) -> None:
        """Whether ``frame`` shows another scene than the frame before."""
        if cut:
            self.cuts.add(frame)
        else:
            self.cuts.discard(frame)

    def undo(self) -> int | None:
        """Take the last change back; the frame it was in, if it was in one.

        Raises `InputError` if there is nothing to undo.
        """
        if not self._undo:
            raise InputError("there is nothing to undo")
        before = self._undo.pop()
        if before.removed is not None:
            thing = self.things[before.removed]
            thing.removed = False
            if any(t.colour == thing.colour and t.id != thing.id for t in self.present):
                taken = {t.colour for t in self.present}
                thing.colour = next(c for c in range(1, MOST_OBJECTS + 1) if c not in taken)
        if before.frame is not None:
            self._put_back(before.frame, before.drawn)
        return before.frame

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    def masks(self) -> dict[str, Path]:
        """Every mask file by the name it has in a project file; `adopt` takes them in again."""
        files: dict[str, Path] = {}
        for frame in sorted(self.drawn):
            files[f"drawn/{frame:06d}.png"] = self._file("drawn", frame)
        for frame, ids in sorted(self._tracked.items()):
            files[f"tracked/{frame:06d}.png"] = self._file("tracked", frame)
            for object_id in ids:
                path = self._score_file(frame, object_id)
                files[f"scores/{path.name}"] = path
        return files

    @property
    def tracked(self) -> dict[int, tuple[int, ...]]:
        """Frame -> objects that were followed into it."""
        return dict(self._tracked)

    def adopt(
        self, drawn: dict[int, frozenset[int]], tracked: dict[int, tuple[int, ...]]
    ) -> None:
        """Take over mask files that lie in the project's folder. Raises `InputError` for bad ones."""
        self.drawn, self._tracked = dict(drawn), dict(tracked)
        known = set(self.things)
        for kind, frames in (("drawn", drawn), ("tracked", tracked)):
            for frame in frames:
                labels = read_labels(self._file(kind, frame))
                if labels.shape != self.size or not set(np.unique(labels).tolist()) <= known | {0}:
                    raise InputError(f"{kind}/{frame:06d}.png does not fit the project's objects")
        for frame in {*drawn, *tracked}:
            self._look_again(frame)

    # The inside

    def _file(self, kind: str, frame: int) -> Path:
        return self._folders[kind] / f"{frame:06d}.png"

    def _score_file(self, frame: int, object_id: int) -> Path:
        return self._folders["scores"] / f"{frame:06d}_{object_id}.png"

    def _composed(self, frame: int) -> np.ndarray:
        tracked = frame in self._tracked
        labels = read_labels(self._file("tracked", frame)) if tracked else None
        if labels is None:
            labels = np.zeros(self.size, np.int32)
        if frame in self.drawn:
            layer = read_labels(self._file("drawn", frame))
            labels[np.isin(labels, list(self.drawn[frame]))] = 0
            labels = np.where(layer > 0, layer, labels)
        return labels

    def _draw(self, frame: int, object_id: int, labels: np.ndarray) -> None:
        self._remember(self._before(frame))
        ids = self.drawn.get(frame, frozenset()) | {object_id}
        layer = np.where(np.isin(labels, list(ids)), labels, 0)
        write_labels(self._file("drawn", frame), layer, wide=False)
        self.drawn[frame] = ids
        self._look_again(frame)

    def _before(self, frame: int) -> _Before:
        if frame not in self.drawn:
            return _Before(frame, None, None)
        return _Before(frame, (self._file("drawn", frame).read_bytes(), self.drawn[frame]), None)

    def _remember(self, before: _Before) -> None:
        self._undo.append(before)
        del self._undo[:-_UNDO]

    def _put_back(self, frame: int, drawn: tuple[bytes, frozenset[int]] | None) -> None:
        path = self._file("drawn", frame)
        if drawn is None:
            path.unlink(missing_ok=True)
            self.drawn.pop(frame, None)
        else:
            path.write_bytes(drawn[0])
            self.drawn[frame] = drawn[1]
        self._look_again(frame)

    def _look_again(self, frame: int) -> None:
        drawn: Collection[int] = self.drawn.get(frame, frozenset())
        tracked = self._tracked.get(frame, ())
        if not drawn and not tracked:
            self.looks.pop(frame, None)
            return
        labels = self._composed(frame)
        ids = sorted({*drawn, *tracked})
        scores = self.scores(frame, ids)
        self.looks[frame] = {
            i: look(labels, i, score, i in drawn) for i, score in zip(ids, scores, strict=True)
        }
