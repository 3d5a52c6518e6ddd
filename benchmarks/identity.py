"""Identity switches: when the mask of one object lies on another.

In a frame, object i is *switched* to object k when the IoU of i's predicted mask with k's truth is above
its IoU with i's own truth, and above `LEAST`; of several such k, the one of the highest IoU. So a mask
that misses its object without taking another one's is no switch, nor is the rim of a neighbour; a mask
that stays on another object while its own is hidden is one. A run of switches is a stretch of frames
without a gap in which i is switched, to whichever objects.

A mask that swallows a neighbour while it keeps its own object is no switch; what it takes
from others is counted by `confused`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 0.1  # IoU with another object's truth, above which a mask lies on it
LONG = 10  # frames: a run of more is a lasting one


@dataclass(frozen=True)
class Run:
    """A stretch of frames in which ``object`` is switched: ``length`` frames from ``first`` on;
    ``onto`` the objects it lies on, ascending."""

    object: int
    first: int
    length: int
    onto: tuple[int, ...]


def switches(predicted: np.ndarray, truth: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """The object that each of ``ids`` is switched to, 0 for none: int ``(N,)``.

    ``predicted``, ``truth``: label maps of one frame, integers ``(H, W)``.
    """
    found = np.stack([(predicted == i).ravel() for i in ids]).astype(np.float32)
    real = np.stack([(truth == i).ravel() for i in ids]).astype(np.float32)
    shared = found @ real.T
    union = found.sum(1)[:, None] + real.sum(1)[None] - shared
    iou = shared / np.maximum(union, 1)
    own = iou.diagonal().copy()
    np.fill_diagonal(iou, 0)
    best = iou.argmax(1)
    other = iou[np.arange(len(ids)), best]
    return np.where((other > own) & (other > LEAST), np.asarray(ids)[best], 0)


def confused(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Share of the objects' true pixels, 0..1, given to another object; label maps ``(H, W)``."""
    real = truth > 0
    wrong = real & (predicted > 0) & (predicted != truth)
    return float(np.count_nonzero(wrong) / max(1, np.count_nonzero(real)))


def runs(switched: np.ndarray, ids: Sequence[int]) -> list[Run]:
    """The runs in ``switched``, int ``(T, N)``: one row of `switches` per frame."""
    out = []
    for n, i in enumerate(ids):
        on = np.concatenate(([0], (switched[:, n] != 0).astype(int), [0]))
        edges = np.flatnonzero(np.diff(on)).tolist()
        for first, stop in zip(edges[::2], edges[1::2], strict=True):
            onto = tuple(int(k) for k in np.unique(switched[first:stop, n]))
            out.append(Run(i, first, stop - first, onto))
    return out
