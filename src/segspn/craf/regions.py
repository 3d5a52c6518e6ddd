"""8-connected regions of a binary map and their measures."""

from __future__ import annotations

import cv2
import numpy as np


class Regions:
    """The 8-connected regions of a binary map, in the order of their first pixels.

    "First" is meant column by column (the order of MATLAB's ``bwlabel``), which section 4 relies
    on. Indices run from 0; all measures are arrays over the regions.

    Attributes:
        window: the rows and columns that hold all regions; the work is done in there.
        labels: int32 (h, w) of the window, 0 outside, region index + 1 inside.
        first: (rows, columns), int64 (M,) each: each region's first pixel in the whole map.
        areas: int64 (M,), pixels of each region.
    """

    def __init__(self, binary: np.ndarray) -> None:
        """Label ``binary``, bool (H, W)."""
        self._size = binary.shape
        x, y, width, height = cv2.boundingRect(binary.view(np.uint8))
        self.window = (slice(y, y + height), slice(x, x + width))
        # The transposed map, scanned row by row, is the map scanned column by column.
        columns = np.ascontiguousarray(binary[self.window].T).view(np.uint8)
        if not columns.size:  # OpenCV takes no empty map
            columns = np.zeros((1, 1), np.uint8)
            self.window = (slice(0, 1), slice(0, 1))
            height = 1
        count, labels = cv2.connectedComponents(columns, connectivity=8, ltype=cv2.CV_32S)
        if count == 2:  # mostly: nothing to put in order
            first = np.array([columns.argmax()])
            self.areas: np.ndarray = np.array([cv2.countNonZero(columns)])
        else:
            labels, first = _in_order(columns, labels, count)
            self.areas = np.bincount(labels.ravel(), minlength=count)[1:]
        self.labels: np.ndarray = np.ascontiguousarray(labels.T)
        self.first = (first % height + self.window[0].start, first // height + self.window[1].start)

    def __len__(self) -> int:
        return len(self.areas)

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The regions where ``rows`` (h,) and ``columns`` (w,) cross: int32 (h, w), as in ``labels``."""
        whole = np.zeros(self._size, np.int32)
        whole[self.window] = self.labels
        return whole[np.ix_(rows, columns)]

    def grid(self, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The middle row (h,) and column (w,) of each cell of a grid of ``size`` (h, w) over the map."""
        rows, columns = (
            (np.arange(n) * full + full // 2) // n for n, full in zip(size, self._size, strict=True)
        )
        return rows, columns

    def count(self, mask: np.ndarray) -> np.ndarray:
        """Pixels of each region inside ``mask``, bool (H, W): int64 (M,)."""
        return np.bincount(self.labels[mask[self.window]], minlength=len(self) + 1)[1:]

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of ``values`` (H, W) over each region: float64 (M,)."""
        total = np.bincount(self.labels.ravel(), values[self.window].ravel(), len(self) + 1)
        return total[1:] / self.areas

    def iou(self, mask: np.ndarray) -> np.ndarray:
        """IoU of each region with ``mask``, bool (H, W): float64 (M,) in 0..1."""
        shared = self.count(mask)
        return shared / (self.areas + np.count_nonzero(mask) - shared)

    def mask(self, chosen: np.ndarray) -> np.ndarray:
        """The union of the regions where ``chosen``, bool (M,), is true: bool (H, W)."""
        out = np.zeros(self._size, bool)
        if chosen.any():
            out[self.window] = np.concatenate(([False], chosen))[self.labels]
        return out


def _in_order(binary: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of ``labels`` int32 (h, w), 0 to ``count`` - 1, those of the regions in the order of their first
    pixels, and these pixels' indices, int64 (M,)."""
    inside = np.flatnonzero(binary)
    first = np.zeros(count, np.int64)
    # Of repeated indices the last assignment stays: backwards, that is the first pixel.
    first[labels.ravel()[inside[::-1]]] = inside[::-1]
    order = np.argsort(first[1:], kind="stable")
    # OpenCV labels by 2x2 blocks, so its numbers are not always those of a pixel scan.
    if (order[1:] < order[:-1]).any():
        rank = np.zeros(count, np.int32)
        rank[1 + order] = np.arange(1, count, dtype=np.int32)
        labels = rank[labels]
    return labels, first[1:][order]
