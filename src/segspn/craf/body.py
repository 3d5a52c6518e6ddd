"""An object's body among its islands: where the others may lie, and whether they move with it."""

from __future__ import annotations

import cv2
import numpy as np

from segspn.craf.regions import Regions

_TOUCHING = np.ones((7, 7), np.uint8)  # what lies within three pixels
_NEARBY = np.ones((7, 7), np.uint8)  # cells around objects that are not counted as ground
_LEAST_BODY, _LEAST_ISLAND = 6, 3  # cells whose median motion tells anything
_APART = 0.375  # cells that two motions must differ by, to be two
_ALIKE = 0.35  # share of how unlike the body's it is, by which an island's motion may miss the ground's


def find_body(islands: Regions, own: np.ndarray, last: np.ndarray) -> int:
    """The island among ``own``, bool (M,) and not empty, that overlaps the ``last`` body, bool (H, W),
    most; the largest if none does."""
    if len(islands) == 1:
        return 0
    shared = np.where(own, islands.count(last), -1)
    return int(np.argmax(shared if shared.max() > 0 else np.where(own, islands.areas, -1)))


def from_centre(islands: Regions, n: int) -> np.ndarray:
    """Distance in pixels of each pixel of the window from the centre of island n: float (h, w)."""
    moments = cv2.moments((islands.labels == n + 1).view(np.uint8), binaryImage=True)
    height, width = islands.labels.shape
    y = np.arange(height)[:, None] - moments["m01"] / moments["m00"]
    x = np.arange(width) - moments["m10"] / moments["m00"]
    distance: np.ndarray = np.hypot(y, x)
    return distance


def touching(islands: Regions, others: np.ndarray) -> np.ndarray:
    """Which islands touch ``others``, bool (H, W): bool (M,)."""
    touched: np.ndarray = cv2.dilate(others.view(np.uint8), _TOUCHING).view(bool)
    return islands.count(touched) > 0


def touches(mask: np.ndarray, others: np.ndarray) -> bool:
    """Whether an object's ``mask``, bool (H, W), not empty, touches what else is above 0 in ``others``,
    (H, W), a mask or labels, which may hide more of it."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    margin = len(_TOUCHING) // 2
    rows = slice(max(0, y - margin), y + height + margin)
    columns = slice(max(0, x - margin), x + width + margin)
    own = mask[rows, columns]
    near = (others[rows, columns] > 0) & ~own
    if not near.any():
        return False
    return bool((cv2.dilate(own.view(np.uint8), _TOUCHING).view(bool) & near).any())


def left_behind(
    islands: Regions,
    body: int,
    judged: np.ndarray,
    labels: np.ndarray,
    motion: np.ndarray,
    ground_share: float,
) -> np.ndarray:
    """Which of the ``judged`` islands, bool (M,), move unlike the ``body`` and as more than
    ``ground_share`` of the ground: bool (M,).

    ``labels`` int32 (H, W) of the frame: what has none is ground. ``motion`` float (2, h, w), in cells
    of a grid over the frame: x, y of where each cell was in the frame before.
    """
    behind = np.zeros(len(islands), bool)
    rows, columns = islands.grid(motion.shape[1:])
    free = (labels[np.ix_(rows, columns)] == 0).view(np.uint8)
    ground = motion[:, cv2.erode(free, _NEARBY).view(bool)]
    cells = islands.at(rows, columns)
    body_moves = motion[:, cells == body + 1]
    if body_moves.shape[1] < _LEAST_BODY or not ground.shape[1]:
        return behind
    body_way = np.median(body_moves, 1)
    for m in np.flatnonzero(judged):
        moves = motion[:, cells == m + 1]
        if moves.shape[1] >= _LEAST_ISLAND:
            island_way = np.median(moves, 1)
            apart = np.hypot(*(island_way - body_way))
            if apart > _APART:
                alike = np.hypot(*(ground - island_way[:, None])) < _ALIKE * apart
                behind[m] = alike.mean() > ground_share
    return behind
