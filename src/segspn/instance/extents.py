"""Extents: where objects are, with what others hide of them.

Between look-alikes place decides, and what comes out from behind another was somewhere all along. So
the form that an object had before it met its like is kept while they touch. It moves as the part in
view does, by a similarity, and is fitted in each frame to what is in view: nothing of it can be where
no object is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from segspn.heap import apart

_FEWEST = 12  # cells in view that tell of a motion; with fewer the last one goes on
_MOST = 600  # cells that are asked
_EXACT = 1.0  # cells by which one that tells of the motion may be off
_ZOOM = 1.4  # from a frame to the next: more is a mistake
_STEP = 2  # cells that a form is moved at most to fit
_SCALES = (0.98, 1.0, 1.02)  # and how it may grow for that
_DEAR = 0.004  # share of a form's cells that must fit better for each cell it moves
_DEARER = 25 * _DEAR  # and for growing by all of itself
_BESIDE = 3  # cells: what is no farther touches
_IN_VIEW = 0.6  # share of a form from which on what is in view may replace it


class Extents:
    """``form``: bool ``(N, h, w)``, cells of stride 4. ``motion``: float ``(N, 2, 3)``, where a cell of
    the newest frame was in the one before, as affine maps of x and y."""

    def __init__(self, form: np.ndarray, motion: np.ndarray) -> None:
        self.form, self.motion = form, motion

    @classmethod
    def of(cls, shares: Tensor) -> Extents:
        """Of shares ``(N, h, w)`` in 0..1: nothing is hidden."""
        return cls(_seen(shares), np.tile(np.eye(2, 3), (len(shares), 1, 1)))

    def follow(self, carried: Tensor, displacement: Tensor, objects: Iterable[int]) -> None:
        """Move those of ``objects`` on by a frame.

        ``carried``: shares ``(N, h, w)`` of what was in view, where it is now; ``displacement``
        ``(2, h, w)``: of `segspn.instance.motion.flow`.
        """
        seen, way = _seen(carried), displacement.cpu().numpy()
        for n in objects:
            found = _similarity(seen[n], way)
            if found is not None:
                self.motion[n] = found
            # Each cell is looked up where it was.
            self.form[n] = _warped(self.form[n], self.motion[n], cv2.WARP_INVERSE_MAP)

    def unlike(self, displacement: Tensor, objects: Iterable[int]) -> dict[int, np.ndarray]:
        """Of each of ``objects`` how unlike it each cell moves: float ``(h, w)``, cells a frame.
        ``displacement`` as for `follow`, which comes first."""
        way = displacement.cpu().numpy()
        y, x = np.mgrid[: way.shape[1], : way.shape[2]].astype(np.float32)
        found = {}
        for n in objects:
            along, across = (
                row[0] * x + row[1] * y + row[2] for row in self.motion[n].astype(np.float32)
            )
            found[n] = np.hypot(along - x - way[0], across - y - way[1])
        return found

    def accept(self, shares: Tensor, pairs: Sequence[tuple[int, int]]) -> None:
        """Take what is in view now, shares ``(N, h, w)``; ``pairs``: of objects that look alike.

        Where one touches its like or may be behind it, what it seems to gain may be the other's: its
        form stays, but for where and how large it is. Elsewhere the form is what is seen, and of one
        that is not in view what something hides.
        """
        seen, before = _seen(shares), self.form.copy()
        anything = np.logical_or.reduce(seen)
        for n, own in enumerate(seen):
            alike = {k for pair in pairs if n in pair for k in pair} - {n}
            if not alike or _free(own, before[n], [seen[k] | before[k] for k in alike]):
                self.form[n] = own
            else:
                self.form[n] = _fitted(before[n], own, anything)

    def arrange(self, order: Sequence[int | None]) -> None:
        """The objects from now on, each by its position so far; None: one that is nowhere yet."""
        kept = [0 if n is None else n for n in order]
        self.form, self.motion = self.form[kept], self.motion[kept]
        for k, n in enumerate(order):
            if n is None:
                self.form[k], self.motion[k] = False, np.eye(2, 3)

    def state(self) -> dict[str, Tensor]:
        """Copies, as flat tensors."""
        return {"form": apart(torch.tensor(self.form)), "motion": torch.tensor(self.motion)}

    @classmethod
    def restored(cls, state: dict[str, Tensor]) -> Extents:
        """Counterpart of ``state``."""
        return cls(*(state[name].cpu().numpy().copy() for name in ("form", "motion")))


def _seen(shares: Tensor) -> np.ndarray:
    return (shares > 0.5).cpu().numpy()


def _similarity(seen: np.ndarray, displacement: np.ndarray) -> np.ndarray | None:
    """The motion ``(2, 3)`` that most cells of bool ``seen`` ``(h, w)`` tell of, if any."""
    ys, xs = np.nonzero(seen)
    if len(ys) < _FEWEST:
        return None
    some = slice(None, None, -(-len(ys) // _MOST))
    ys, xs = ys[some], xs[some]
    now = np.stack((xs, ys), 1).astype(np.float32)
    before = now + displacement[:, ys, xs].T.astype(np.float32)
    found, _ = cv2.estimateAffinePartial2D(now, before, ransacReprojThreshold=_EXACT)
    if found is None or not 1 / _ZOOM < np.hypot(found[0, 0], found[0, 1]) < _ZOOM:
        return None
    return np.asarray(found)


def _free(own: np.ndarray, form: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether an object's ``form`` is what is seen of it, its ``own``: most of that is in view and none
    of the ``others`` beside it; all bool ``(h, w)``."""
    if np.count_nonzero(own) <= _IN_VIEW * np.count_nonzero(form):
        return False
    near = cv2.dilate(own.view(np.uint8), np.ones((2 * _BESIDE + 1,) * 2, np.uint8)) > 0
    return not any((near & other).any() for other in others)


def _fitted(form: np.ndarray, own: np.ndarray, anything: np.ndarray) -> np.ndarray:
    """``form`` moved and scaled a little to cover what is in view of its ``own``, and to lie where there
    is ``anything`` in view or, beyond the frame, nothing is known; all bool ``(h, w)``. Its ``own``
    where there is no form, and where nothing of it is in view what ``anything`` hides."""
    area = np.count_nonzero(form)
    if not area:
        return own
    worth = np.pad(own.astype(np.float32) + anything, _STEP, constant_values=1)
    way = np.abs(np.arange(-_STEP, _STEP + 1, dtype=np.float32))
    moved = _DEAR * area * (way[:, None] + way)
    y, x = (side.mean() for side in np.nonzero(form))
    best, found = -np.inf, form
    for scale in _SCALES:
        about = np.array([[scale, 0, (1 - scale) * x], [0, scale, (1 - scale) * y]])
        grown = _warped(form, about)
        left, top, width, height = cv2.boundingRect(grown.view(np.uint8))
        if not width:
            continue
        part = grown[top : top + height, left : left + width].astype(np.float32)
        around = worth[top : top + height + 2 * _STEP, left : left + width + 2 * _STEP]
        # At each offset the cells of it that are its own or anything's, twice where both, less all.
        gain = cv2.matchTemplate(around, part, cv2.TM_CCORR) - part.sum()
        gain -= moved + _DEARER * area * abs(scale - 1)
        down, right = np.unravel_index(gain.argmax(), gain.shape)
        if gain[down, right] > best:
            best = gain[down, right]
            offset = np.array([[1, 0, right - _STEP], [0, 1, down - _STEP]], np.float64)
            found = _warped(grown, offset)
    return found if own.any() else found & anything


def _warped(form: np.ndarray, map_: np.ndarray, flags: int = 0) -> np.ndarray:
    """Bool ``(h, w)`` where the affine ``map_`` puts it; nothing comes in from beyond the frame."""
    image = form.view(np.uint8) * np.uint8(255)
    moved: np.ndarray = cv2.warpAffine(image, map_, form.shape[::-1], flags=cv2.INTER_LINEAR | flags)
    return moved > 127
