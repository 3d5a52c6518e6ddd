"""Objects that look alike: told apart by where they were and how they move; nothing else does.

Matching and classifier are sure of themselves even between two cars of one make, and what one of them
takes by mistake it remembers as its own. What either of such a pair claims therefore goes to the one
that is nearer, with what is hidden of it; what moves unlike an object counts as farther from it, and so
does what lies outside the form of one that is whole in view. Between objects that differ appearance
decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.foreground.parent import SUB

ALIKE = 0.8  # mean cosine of the shipped keys between two objects, from which on they are alike
CLEAR = 4.0  # cells by which one must be nearer to have it all
_MOVING = 3.0  # cells of distance for each cell a frame of unlike motion, up to CLEAR of them
_WHOLE = 0.85  # share of its form from which on an object counts as whole in view
_OUTSIDE = 8.0  # cells of distance wherever the form of a whole one does not reach,
_RIM = 1.5  # by so many cells and one more
LOST = 12.0  # log-odds that the other then loses
_TRACE = 1e-3  # share by which one that is nearer but has no vote can still get those of its like


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


def pairs_alike(alike: Tensor) -> list[tuple[int, int]]:
    """Of `alikeness` ``(N, N)`` the pairs of objects that nothing but place tells apart."""
    # All at once: asked in several places a frame, and one by one ten objects take half a millisecond.
    return [(i, k) for i, k in (alike > ALIKE).tril(-1).nonzero().tolist()]


def members_of(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """All objects that occur in ``pairs``, ascending."""
    return sorted({n for pair in pairs for n in pair})


class Rivals:
    """The objects of a frame that look alike, and how far each place is from where they are expected.

    An object that may be anywhere, in sight no more and behind nothing, gives nothing and takes nothing.
    """

    def __init__(
        self,
        last: Tensor,
        form: np.ndarray,
        unlike: Mapping[int, np.ndarray],
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        """``last``: shares ``(N, h, w)`` of the objects a frame ago, where motion has carried them;
        ``form``: bool ``(N, h, w)``, their forms, and ``unlike`` how unlike each of a pair each cell
        moves (`segspn.instance.extents`); ``pairs``: of `pairs_alike`."""
        members = members_of(pairs)
        seen = {n: (last[n] > 0.5).cpu().numpy() for n in members}
        far = {n: _distance(seen[n] | form[n]) for n in members}
        self._far = {n: cells for n, cells in far.items() if cells is not None}
        for n, cells in self._far.items():
            # Behind one that is in view there an object may be, but it is the other that is seen.
            for k in self._far.keys() - {n}:
                cells += CLEAR * (seen[k] & form[k] & ~seen[n])
            cells += np.minimum(_MOVING * unlike[n], CLEAR)
            in_view = np.count_nonzero(seen[n]) >= _WHOLE * np.count_nonzero(form[n])
            outside = _distance(form[n]) if in_view else None
            if outside is not None:
                # Nothing of it is hidden that could come out: what is new beside it is its like's.
                cells += _OUTSIDE * np.clip(outside - _RIM, 0, 1)
        self._pairs = [pair for pair in pairs if self._far.keys() >= set(pair)]

    def divide(self, shares: Tensor) -> Tensor:
        """Shares ``(..., N, h, w)`` in 0..1 that a memory votes for, those of look-alikes divided by
        place: what it holds for either goes to the one that was nearest.

        Three cars of one make get a third each of the votes for any of them, which is less than the
        background's share: all three would be lost.
        """
        out = shares.clone() if self._pairs else shares
        for n in members_of(self._pairs):
            group = [n, *(k for pair in self._pairs if n in pair for k in pair if k != n)]
            far = torch.from_numpy(np.stack([self._far[g] for g in group])).to(shares)
            near = (1 - (far - far.amin(0)) / CLEAR).clamp(min=0)
            held = shares[..., group, :, :]
            parts = (held + _TRACE) * near
            out[..., n, :, :] = held.sum(-3) * parts[..., 0, :, :] / parts.sum(-3)
        return out

    def settle(self, logits: Tensor) -> Tensor:
        """Log-odds ``(N, h, w)`` after look-alikes have shared their claims by place."""
        if not self._pairs:
            return logits
        gained, lost = torch.zeros_like(logits), torch.zeros_like(logits)
        for i, k in self._pairs:
            nearer = torch.from_numpy((self._far[k] - self._far[i]) / CLEAR).to(logits)
            for near, away, share in ((i, k, nearer.clamp(0, 1)), (k, i, (-nearer).clamp(0, 1))):
                more = share * (logits[away] - logits[near]).clamp(min=0)
                gained[near] = torch.maximum(gained[near], more)
                lost[away] = torch.maximum(lost[away], LOST * share)
        return logits + gained - lost


def _distance(place: np.ndarray) -> np.ndarray | None:
    """Cells from each to the nearest one of bool ``place`` ``(h, w)``; None where it is nowhere."""
    if not place.any():
        return None
    # Not DIST_MASK_PRECISE: two runs of it, in several threads, may differ in the last digits.
    return cv2.distanceTransform((~place).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
