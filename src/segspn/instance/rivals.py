"""Objects that look alike: told apart by where they were, since nothing else tells them apart.

Matching and classifier are sure of themselves even between two cars of one make, and what one of them
takes by mistake it remembers as its own. What either of such a pair claims therefore goes to the one
whose last mask is nearer; between objects that differ appearance decides, because a part that comes into
view again may be nearer to what hid it.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.foreground.parent import SUB

ALIKE = 0.8  # mean cosine of the shipped keys between two objects, from which on they are alike
CLEAR = 4.0  # cells by which one must be nearer to have it all
LOST = 12.0  # log-odds that the other then loses


def alikeness(keys: Tensor, shares: Tensor) -> Tensor:
    """How alike the objects of annotated frames look: cosines ``(N, N)``, symmetric.

    ``keys`` ``(A, K, h, w)``, unit vectors; ``shares`` ``(A, N, 2h, 2w)``, 0 where a frame does not tell
    of an object. For each cell of one object the best match among the other's, on average; -1 for an
    object without a cell, and on the diagonal.
    """
    cells = F.avg_pool2d(shares, SUB).transpose(0, 1).flatten(1)  # (N, A h w)
    flat = keys.transpose(0, 1).flatten(1)
    own = [flat[:, c > 0.5] for c in cells]
    n = len(own)
    found = keys.new_full((n, n), -1.0)
    for i in range(n):
        for k in range(i):
            if own[i].shape[1] and own[k].shape[1]:
                cosines = own[i].T @ own[k]
                both = (cosines.amax(1).mean() + cosines.amax(0).mean()) / 2
                found[i, k] = found[k, i] = both
    return found


def settle(logits: Tensor, last: Tensor, alike: Tensor) -> Tensor:
    """Log-odds ``(N, h, w)`` after objects that look alike have shared their claims by place.

    ``last``: shares ``(N, h, w)`` of the objects a frame ago; ``alike``: of `alikeness`. An object out
    of sight gives nothing and takes nothing: it may come back anywhere.
    """
    pairs = [(i, k) for i in range(len(last)) for k in range(i) if alike[i, k] > ALIKE]
    if not pairs:
        return logits
    far = {n: _distance(last[n]) for n in sorted({n for pair in pairs for n in pair})}
    gained, lost = torch.zeros_like(logits), torch.zeros_like(logits)
    for i, k in pairs:
        one, other = far[i], far[k]
        if one is None or other is None:
            continue
        nearer = ((other - one) / CLEAR).to(logits.device)
        for near, away, share in ((i, k, nearer.clamp(0, 1)), (k, i, (-nearer).clamp(0, 1))):
            more = share * (logits[away] - logits[near]).clamp(min=0)
            gained[near] = torch.maximum(gained[near], more)
            lost[away] = torch.maximum(lost[away], LOST * share)
    return logits + gained - lost


def _distance(shares: Tensor) -> Tensor | None:
    """Cells from each to the nearest one of the object, ``(h, w)``; None where it is nowhere."""
    outside = (shares <= 0.5).cpu().numpy().astype(np.uint8)
    if outside.all():
        return None
    return torch.from_numpy(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
