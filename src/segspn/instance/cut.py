"""Cuts: whether a frame goes on with the scene of the one before.

Where a film cuts to another shot no object is where it was, and tracking on would hand its name to what
happens to be there. Pictures are compared by the matching keys, averaged over blocks of 64 pixels: they
bear the motion of many frames, and there is no more to compute.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_BLOCK = 8  # cells of stride 8
_SAME = 0.6  # mean cosine of blocks in one place, from which on it is one scene (docs/accuracy.md)


def layout(keys: Tensor) -> Tensor:
    """What is where in a frame, roughly: unit vectors ``(K, h, w)``, of the `matching_keys`
    ``(K, Hp / 8, Wp / 8)``."""
    means = F.avg_pool2d(keys[None], _BLOCK, ceil_mode=True, count_include_pad=False)[0]
    return F.normalize(means, dim=0)


def same_scene(before: Tensor, now: Tensor) -> bool:
    """Whether two frames, each as `layout` tells it, show one scene."""
    return float((before * now).sum(0).mean()) >= _SAME
