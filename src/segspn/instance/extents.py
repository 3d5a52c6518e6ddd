"""Extents: where objects are, with what others hide of them.

Between look-alikes place decides, and what comes out from behind another was somewhere all along. So
of each object the hidden part is kept for as long as another object covers it, and moves as the part in
view does, by a similarity: a step of one frame is small, and the part in view corrects it in the next.
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


class Extents:
    """``whole``: bool ``(N, h, w)``, cells of stride 4. ``motion``: float ``(N, 2, 3)``, where a cell of
    the newest frame was in the one before, as affine maps of x and y."""

    def __init__(self, whole: np.ndarray, motion: np.ndarray) -> None:
        self.whole, self.motion = whole, motion

    @classmethod
    def of(cls, shares: Tensor) -> Extents:
        """Of shares ``(N, h, w)`` in 0..1: nothing is hidden."""
        return cls(_seen(shares), np.tile(np.eye(2, 3), (len(shares), 1, 1)))

    def follow(self, carried: Tensor, displacement: Tensor, objects: Iterable[int]) -> None:
        """Move those of ``objects`` on by a frame.

        ``carried``: shares ``(N, h, w)`` of what was in view, where it is now; ``displacement``
        ``(2, h, w)``: of `segspn.instance.motion.flow`.
        """
        size = carried.shape[:0:-1]
        seen, way = _seen(carried), displacement.cpu().numpy()
        for n in objects:
            found = _similarity(seen[n], way)
            if found is not None:
                self.motion[n] = found
            whole = self.whole[n].view(np.uint8) * np.uint8(255)
            # Each cell is looked up where it was.
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            self.whole[n] = cv2.warpAffine(whole, self.motion[n], size, flags=flags) > 127

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

    def accept(self, shares: Tensor) -> None:
        """Take what is in view now, shares ``(N, h, w)``: where that is another object the rest of an
        extent may be behind it, elsewhere it would be seen."""
        seen = _seen(shares)
        count = seen.sum(0)
        for whole, own in zip(self.whole, seen, strict=True):
            whole[:] = own | (whole & (count > own))

    def arrange(self, order: Sequence[int | None]) -> None:
        """The objects from now on, each by its position so far; None: one that is nowhere yet."""
        kept = [0 if n is None else n for n in order]
        self.whole, self.motion = self.whole[kept], self.motion[kept]
        for k, n in enumerate(order):
            if n is None:
                self.whole[k], self.motion[k] = False, np.eye(2, 3)

    def state(self) -> dict[str, Tensor]:
        """Copies, as flat tensors."""
        return {"whole": apart(torch.tensor(self.whole)), "motion": torch.tensor(self.motion)}

    @classmethod
    def restored(cls, state: dict[str, Tensor]) -> Extents:
        """Counterpart of ``state``."""
        return cls(*(state[name].cpu().numpy().copy() for name in ("whole", "motion")))


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
