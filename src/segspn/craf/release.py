"""The filter of the authors' published demo, to the pixel (section 4, "release").

Readings the text leaves open, and what is taken here:

- Scanning starts at the first region and goes on behind the region last looked at; a new object
  starts at its first region again.
- The largest area is that of all the object's regions, rejected ones included.
- The test "first pixel is exactly 255" sees the map as it is by then, so a region that was
  rejected, and thereby set to 255, survives (its pixels stay 255).
- "Set all of S to 0" includes the pixels of S <= 30.
- Recovery compares the areas of the new and the previous mask (not their overlap); it sees labels
  that recovery has already given, and the foreground mask once more only at the very end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segspn.craf.base import Craf, CrafResult, Sight, as_bytes, as_unit
from segspn.craf.merge import merge
from segspn.craf.params import ReleaseParams
from segspn.craf.regions import Regions

_FULL = 255


class ReleaseCraf(Craf):
    """Section 4, "release". Float scores are rounded to 8 bits first, so 8-bit input is exact."""

    def __init__(self, params: ReleaseParams, ids: Sequence[int]) -> None:
        self.params = params
        super().__init__(ids)

    def _filter(
        self,
        scores: np.ndarray,
        previous: np.ndarray,
        foreground: np.ndarray | None,
        sight: Sight,
    ) -> CrafResult:
        raw = as_bytes(scores)
        masks = [previous == i for i in self.ids]
        filtered = np.stack([self._select(s, m) for s, m in zip(raw, masks, strict=True)])
        labels = merge(filtered, self.ids, self.params.label_score, foreground)
        self._recover(raw, masks, labels)
        if foreground is not None:
            labels[~foreground] = 0
        return CrafResult(as_unit(filtered), labels)

    def _select(self, score: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Step 1 for one object: uint8 (H, W) and its previous mask in, filtered uint8 out."""
        regions = Regions(score > self.params.region_score)
        if not len(regions):
            return score
        rejected = np.zeros(len(regions), bool)
        iou = regions.iou(previous)
        large = regions.areas / regions.areas.max() > self.params.area_share
        start = 0
        while True:
            best = iou.max()
            if best <= self.params.hopeless_iou:
                return np.zeros_like(score)
            ties = np.flatnonzero(iou == best)
            # Cyclic: the first tie from `start` on, else the first one of all.
            chosen = ties[np.searchsorted(ties, start) % len(ties)]
            if large[chosen]:
                break
            rejected[chosen] = True
            iou[chosen] = 0
            start = chosen + 1
        out = score.copy()
        out[regions.mask(rejected)] = _FULL
        keep = score[regions.first] == _FULL
        keep |= rejected
        keep[chosen] = True
        out[regions.mask(~keep)] = 0
        return out

    def _recover(self, raw: np.ndarray, masks: list[np.ndarray], labels: np.ndarray) -> None:
        """Step 3: label, in place, regions of unfiltered scores that look like a lost object."""
        for object_id, mask in zip(self.ids, masks, strict=True):
            before = np.count_nonzero(mask)
            if before < self.params.recovery_area:
                continue
            if np.count_nonzero(labels == object_id) / before >= self.params.recovery_share:
                continue
            for score in raw:
                regions = Regions((score > 0) & (labels == 0))
                labels[regions.mask(regions.iou(mask) > self.params.recovery_iou)] = object_id
