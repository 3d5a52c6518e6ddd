"""Whereabouts: where in a frame each object is looked for; elsewhere nothing can be taken for it.

That is around where motion has carried what was in view of it. But what hides a part of an object lets
it out again on its other side, farther away than anything moves in a frame. So it is looked for as far
as its box may grow to the size that it had, and wherever near by its classifier, which sees the whole
frame at no cost, finds it. In time: what is not looked for is remembered as something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone.place import IN_SIGHT, Place, search_places
from segspn.foreground.parent import SUB
from segspn.heap import apart
from segspn.instance.learner import CELL

_KEPT = 0.95  # of its height and width, from a frame to the next, while part of it may be hidden
_RIM = 8  # pixels around where the classifier finds it


class Whereabouts:
    """``sides``: float64 ``(N, 2)``, height and width in pixels of each object's box, as large as it has
    been lately."""

    def __init__(self, sides: np.ndarray) -> None:
        self.sides = sides

    @classmethod
    def of(cls, shares: Tensor) -> Whereabouts:
        """Of shares ``(N, Hp / 4, Wp / 4)`` in 0..1: nothing is hidden."""
        return cls(_sides(shares))

    def places(self, carried: Tensor, reach: int, scores: Tensor | None) -> list[Place]:
        """Where each object may be in a frame; anywhere where it is out of sight.

        ``carried``: shares ``(N, Hp / 4, Wp / 4)`` of a frame ago, where motion has carried them;
        ``reach``: pixels around it at least; ``scores`` ``(N, 4, Hp / 8, Wp / 8)``: of the classifiers,
        -1 (not the object) to 1, if there are any.
        """
        hidden = np.maximum(self.sides - _sides(carried), reach).astype(int)
        places = search_places(carried, [(down, across) for down, across in hidden.tolist()])
        if scores is None:
            return places
        found = F.avg_pool2d(scores.mean(1), 3, 1, 1) > 0
        cells = F.max_pool2d((carried > IN_SIGHT).float(), SUB) > 0
        others = cells.sum(0) - cells.int() > 0
        for n, farthest in enumerate(self.sides.max(1).astype(int).tolist()):
            near = Place.around(cells[n], CELL, farthest)
            if near is None:
                continue
            # Where others were in view nothing comes out of hiding, however like them it looks.
            claimed = torch.zeros_like(found[n])
            near.cut(claimed, CELL)[:] = near.cut(found[n] & ~others[n], CELL)
            seen = Place.around(claimed, CELL, _RIM)
            if seen is not None:
                places[n] = Place.joined((places[n], seen))
        return places

    def accept(self, shares: Tensor) -> None:
        """Take what is in view now, shares ``(N, Hp / 4, Wp / 4)``; what is out of sight keeps its
        size."""
        now = _sides(shares)
        kept = np.where(now.any(1, keepdims=True), _KEPT, 1) * self.sides
        self.sides = np.maximum(kept, now)

    def arrange(self, order: Sequence[int | None]) -> None:
        """The objects from now on, each by its position so far; None: one that is nowhere yet."""
        self.sides = np.stack([np.zeros(2) if n is None else self.sides[n] for n in order])

    def state(self) -> Tensor:
        """A copy of ``sides``."""
        return apart(torch.from_numpy(self.sides))


def _sides(shares: Tensor) -> np.ndarray:
    """Height and width in pixels of each one's box, float64 ``(N, 2)``; 0 of one that is nowhere."""
    there: np.ndarray = (shares > IN_SIGHT).cpu().numpy()
    sides = [_spans(np.any(there, axis)) for axis in (2, 1)]
    return CELL // SUB * np.stack(sides, 1).astype(np.float64)


def _spans(hits: np.ndarray) -> np.ndarray:
    """From the first to the last true value in each row of bool ``(N, n)``: int ``(N,)``, 0 for none."""
    first, behind = hits.argmax(1), hits.shape[1] - hits[:, ::-1].argmax(1)
    return np.where(hits.any(1), behind - first, 0)
