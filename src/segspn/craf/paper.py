"""The filter as the paper describes it (section 4, "paper").

Readings the text leaves open, and what is taken here:

- Regions are 8-connected regions of score above the merge threshold. The previous mask is the
  object's mask in the previous output label map.
- Step 1: a best region that fails the size test is not replaced by the next best one; the object
  then has no selected region and only step 3 can find one. When every IoU is 0 all regions tie, so
  the largest one is selected. A tie in area as well goes to the region first in column order.
  Without a selected region the whole map becomes zero.
- Step 2: ordered pairs (i, j) are visited with i, then j ascending, each seeing what the pairs
  before it left; so of two equal regions the lower id loses its own. An empty region is never
  covered.
- Step 3: "regions not selected by any object" are the regions, of every object's map, that no
  object selects at that moment. The one of highest IoU is taken (ties: the lower id's map, then
  column order) with the scores of the map it comes from. An object without pixels in the previous
  frame has no size to compare with and is not recovered. Step 2 follows each recovery.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segspn.craf.base import Craf, CrafResult, Sight, as_unit
from segspn.craf.merge import merge
from segspn.craf.params import PaperParams
from segspn.craf.regions import Regions


class PaperCraf(Craf):
    """Section 4, "paper"."""

    def __init__(self, params: PaperParams, ids: Sequence[int]) -> None:
        self.params = params
        super().__init__(ids)

    def _filter(
        self,
        scores: np.ndarray,
        previous: np.ndarray,
        foreground: np.ndarray | None,
        sight: Sight,
    ) -> CrafResult:
        unit = as_unit(scores)
        masks = [previous == i for i in self.ids]
        regions = [Regions(score > self.params.threshold) for score in unit]
        # (map, region) each object has selected, or None
        owned = [self._select(n, r, m) for n, (r, m) in enumerate(zip(regions, masks, strict=True))]
        selected = [
            np.zeros(previous.shape, bool) if own is None else _mask(regions, own) for own in owned
        ]
        self._uncover(selected)
        for n, mask in enumerate(masks):
            before = np.count_nonzero(mask)
            if not before or np.count_nonzero(selected[n]) / before >= self.params.gamma:
                continue
            found = self._recover(mask, regions, owned)
            if found is not None:
                owned[n] = found
                selected[n] = _mask(regions, found)
                self._uncover(selected)
        filtered = np.zeros_like(unit)
        for n, own in enumerate(owned):
            if own is not None:
                filtered[n][selected[n]] = unit[own[0]][selected[n]]
        return CrafResult(filtered, merge(filtered, self.ids, self.params.threshold, foreground))

    def _select(self, n: int, regions: Regions, previous: np.ndarray) -> tuple[int, int] | None:
        """Step 1: (n, index) of the selected region of object n's map."""
        if not len(regions):
            return None
        # The last key of lexsort counts most; it is stable, so full ties keep column order.
        best = int(np.lexsort((-regions.areas, -regions.iou(previous)))[0])
        if regions.areas[best] / regions.areas.max() <= self.params.alpha:
            return None
        return n, best

    def _uncover(self, selected: list[np.ndarray]) -> None:
        """Step 2, in place on the bool (H, W) selected regions."""
        for i, covering in enumerate(selected):
            for j, covered in enumerate(selected):
                area = np.count_nonzero(covered)
                if i == j or not area:
                    continue
                if np.count_nonzero(covering & covered) / area > self.params.beta:
                    covering &= ~covered

    def _recover(
        self, mask: np.ndarray, regions: list[Regions], owned: list[tuple[int, int] | None]
    ) -> tuple[int, int] | None:
        """Step 3: the free region most like the previous ``mask``, as (map, index)."""
        best, found = self.params.delta, None
        for n, candidates in enumerate(regions):
            for m, iou in enumerate(candidates.iou(mask)):
                if iou > best and (n, m) not in owned:
                    best, found = float(iou), (n, m)
        return found


def _mask(regions: list[Regions], which: tuple[int, int]) -> np.ndarray:
    """The pixels of one (map, index) region: bool (H, W)."""
    n, index = which
    return regions[n].mask(np.arange(len(regions[n])) == index)
