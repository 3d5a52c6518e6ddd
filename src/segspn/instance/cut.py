"""Cuts: whether a frame goes on with the scene of the one before.

Where a film cuts to another shot no object is where it was, and tracking on would hand its name to what
happens to be there. Pictures are compared by the matching keys, averaged over blocks of 64 pixels: they
bear the motion of many frames, and there is no more to compute.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone.frame import Frame

_BLOCK = 8  # cells of stride 8
_DROP = 0.15  # below what is usual between two frames it is a cut (docs/accuracy.md),
_LEAST, _ENOUGH = 0.6, 0.75  # and always below the first of these, never from the second on
_RATE = 0.2  # at which what is usual follows


def layout(keys: Tensor) -> Tensor:
    """What is where in a frame, roughly: unit vectors ``(K, h, w)``, of the `matching_keys`
    ``(K, Hp / 8, Wp / 8)``."""
    means = F.avg_pool2d(keys[None], _BLOCK, ceil_mode=True, count_include_pad=False)[0]
    return F.normalize(means, dim=0)


def frame_layout(frame: Frame, keys: Tensor) -> Tensor:
    """The `layout` of a frame with these keys, computed once per frame."""
    made: Tensor = frame.once("layout", lambda: layout(keys))
    return made


class Scene:
    """The scene of the frame last accepted: its `layout`, and how alike frames are here that follow
    each other, the mean cosine of blocks in one place; None before there were two."""

    def __init__(self, layout: Tensor, usual: float | None = None) -> None:
        self._layout, self._usual = layout, usual

    def goes_on(self, now: Tensor) -> bool:
        """Whether a frame of the layout ``now`` shows it too, however things move; else there was a
        cut."""
        return self._alike(now) >= self._least()

    def followed_by(self, now: Tensor) -> Scene:
        """The scene of the next frame, of the layout ``now``; after a cut frames may move as before."""
        alike, usual = self._alike(now), self._usual
        if alike >= self._least():
            usual = alike if usual is None else usual + _RATE * (alike - usual)
        return Scene(now, usual)

    def _least(self) -> float:
        return _LEAST if self._usual is None else min(max(self._usual - _DROP, _LEAST), _ENOUGH)

    def _alike(self, now: Tensor) -> float:
        return float((self._layout * now).sum(0).mean())

    def state(self) -> dict[str, Tensor]:
        """As named tensors."""
        usual = {} if self._usual is None else {"usual": torch.tensor(self._usual, dtype=torch.float64)}
        return {"layout": self._layout} | usual

    @classmethod
    def restored(cls, state: dict[str, Tensor]) -> Scene:
        """Counterpart of ``state``."""
        return cls(state["layout"], float(state["usual"]) if "usual" in state else None)
