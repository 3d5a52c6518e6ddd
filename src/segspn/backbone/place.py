"""Places: windows of a frame in which an object is looked for, so that the rest costs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segspn.backbone.frame import ALIGN

SIDES = (128, 192, 256, 384, 512, 768, 1024, 1536)
"""Of windows that nets look at, in pixels; the whole frame's come to them."""

IN_SIGHT = 0.25
"""Share from which on a cell of stride 4 counts as an object's."""


@dataclass(frozen=True)
class Place:
    """A window of the padded frame, in pixels that are multiples of `ALIGN`."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def around(cls, there: Tensor, stride: int, margin: int | tuple[int, int]) -> Place | None:
        """The box of ``there``, bool ``(Hp / stride, Wp / stride)``, and at least ``margin`` pixels more
        on each side, as far as the frame goes, ``(down, across)`` if these differ; None where nothing is
        true."""
        spans = []
        margins = (margin, margin) if isinstance(margin, int) else margin
        for hits, more in zip((there.any(1), there.any(0)), margins, strict=True):
            where = hits.nonzero()[:, 0]
            if not len(where):
                return None
            first, last = int(where[0]) * stride - more, (int(where[-1]) + 1) * stride + more
            limit = len(hits) * stride
            spans.append((max(0, first // ALIGN * ALIGN), min(limit, -(-last // ALIGN) * ALIGN)))
        (top, bottom), (left, right) = spans
        return cls(top, left, bottom, right)

    @classmethod
    def joined(cls, places: Iterable[Place]) -> Place:
        """The smallest one that holds all of ``places``, of which there must be one at least."""
        tops, lefts, bottoms, rights = zip(
            *((p.top, p.left, p.bottom, p.right) for p in places), strict=True
        )
        return cls(min(tops), min(lefts), max(bottoms), max(rights))

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)``"""
        return self.bottom - self.top, self.right - self.left

    @property
    def area(self) -> int:
        """In pixels."""
        return self.size[0] * self.size[1]

    def cut(self, maps: Tensor, stride: int = 1) -> Tensor:
        """A view of this window of maps ``(..., Hp / stride, Wp / stride)``."""
        rows = slice(self.top // stride, self.bottom // stride)
        return maps[..., rows, self.left // stride : self.right // stride]

    def grown(self, limits: tuple[int, ...]) -> Place:
        """One of few sizes that holds this one, in a padded frame of ``limits`` ``(Hp, Wp)``.

        For each size of its input oneDNN compiles a kernel, which takes longer than running it, and
        keeps it: with windows of any size a process grows by 100 MB in a thousand frames.
        """
        top, bottom = _grown(self.top, self.bottom, limits[0])
        left, right = _grown(self.left, self.right, limits[1])
        return Place(top, left, bottom, right)

    def within(self, outer: Place) -> Place:
        """This window in the coordinates of ``outer``."""
        top, left = outer.top, outer.left
        return Place(self.top - top, self.left - left, self.bottom - top, self.right - left)


def search_places(shares: Tensor, reach: int | Sequence[tuple[int, int]]) -> list[Place]:
    """Where each object may be by now whose ``shares`` ``(N, Hp / 4, Wp / 4)`` were true a frame ago:
    ``reach`` pixels around it, or of each its own ``(down, across)``; anywhere where it is out of sight,
    since it may come back anywhere."""
    height, width = (4 * n for n in shares.shape[-2:])
    whole = Place(0, 0, height, width)
    margins = [(reach, reach)] * len(shares) if isinstance(reach, int) else reach
    there = zip(shares > IN_SIGHT, margins, strict=True)
    return [Place.around(seen, 4, margin) or whole for seen, margin in there]


def covered(places: Iterable[Place], like: Tensor, stride: int) -> Tensor:
    """Cells of maps ``like`` ``(..., h, w)`` that lie in one of ``places`` at least: bool ``(h, w)``."""
    cells = torch.zeros(like.shape[-2:], dtype=torch.bool, device=like.device)
    for place in places:
        place.cut(cells, stride)[:] = True
    return cells


def _grown(first: int, last: int, limit: int) -> tuple[int, int]:
    """A span of one of `SIDES`, or all up to ``limit``, that holds the one given."""
    side = min((s for s in SIDES if s >= last - first), default=limit)
    if side >= limit:
        return 0, limit
    start = first - (side - (last - first)) // (2 * ALIGN) * ALIGN
    start = min(max(0, start), limit - side)
    return start, start + side
