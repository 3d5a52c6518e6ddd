"""What a person hints at an object with: clicks, a box, strokes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Click = tuple[int, int, bool]


@dataclass(frozen=True, eq=False)
class Prompts:
    """Hints at one object on one image.

    ``clicks``: (x, y, whether it is on the object), in pixels; ``box``: (x0, y0, x1, y1) in pixels, x1
    and y1 exclusive, that holds the object closely; ``positive``, ``negative``: bool ``(H, W)``, strokes
    on the object and beside it.
    """

    clicks: tuple[Click, ...] = ()
    box: tuple[int, int, int, int] | None = None
    positive: np.ndarray | None = None
    negative: np.ndarray | None = None

    def joined(self, more: Prompts) -> Prompts:
        """These hints and ``more``, whose box replaces an earlier one and whose strokes go on top."""
        return Prompts(
            tuple(dict.fromkeys(self.clicks + more.clicks)),
            more.box or self.box,
            _over(self.positive, more.positive, more.negative),
            _over(self.negative, more.negative, more.positive),
        )

    def seeds(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Pixels that are marked as the object's, and as not: two bool ``(H, W)``, clicks included."""
        pair = tuple(
            np.zeros(size, bool) if strokes is None else strokes.copy()
            for strokes in (self.positive, self.negative)
        )
        for x, y, positive in self.clicks:
            pair[0][y, x], pair[1][y, x] = positive, not positive
        return pair[0], pair[1]


def _over(
    old: np.ndarray | None, new: np.ndarray | None, other: np.ndarray | None
) -> np.ndarray | None:
    if old is None:
        return new
    kept = old if other is None else old & ~other
    return kept if new is None else kept | new
