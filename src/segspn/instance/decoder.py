"""Decoder: everything that is known of an object in a frame -> its log-odds.

Trained offline on synthetic clips, on its own results of the frames before, so that it knows how the
memory, the online classifier and the last mask fail, and which of them to believe. Its weights are
shared by all objects, and so is the part that reads the embedding.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convolution import RELU, Conv2d
from segspn.backbone.place import Place
from segspn.foreground.parent import SUB
from segspn.instance.learner import CELLS
from segspn.instance.lookalikes import as_look_alikes, projected
from segspn.instance.memory import Votes

RIVALS = ("first", "recent", "learning")
"""Clues of which an object also knows the highest of all other objects."""

CLUES = (
    "first",
    "recent",
    "steady",
    "learning",
    "last",
    "what",
    "others",
    *(f"rival {name}" for name in RIVALS),
)
"""Maps of 2x2 values a cell; 4 channels of how well the memory matches and 2 of nearness follow."""

CHANNELS = CELLS * len(CLUES) + 4 + 2

_LEAST = 1e-4  # share
_LEAST_ODDS = math.log(_LEAST / (1 - _LEAST)) / 4


def clues(
    votes: Votes, steady: Tensor, learning: Tensor, previous: Tensor, foreground: Tensor
) -> Tensor:
    """What is known of each object, cell by cell: ``(B, N, CHANNELS, h, w)``, about -2 to 2.

    ``votes``: the memory's, with a batch axis (shares ``(3, B, N, 2h, 2w)``, match
    ``(4, B, N, h, w)``); ``steady``, ``learning``: the classifier's scores ``(B, N, 4, h, w)``;
    ``previous``: the last mask, shares ``(B, N, 2h, 2w)``; ``foreground``: the parent's log-odds
    ``(B, 1, 2h, 2w)``. The last maps are the surroundings: where other objects were, what speaks for
    the strongest of them, and how near the object was.
    """
    b, n = previous.shape[:2]

    def cells(maps: Tensor) -> Tensor:
        return F.pixel_unshuffle(maps.flatten(0, 1)[:, None], SUB).unflatten(0, (b, n))

    odds = [cells(torch.logit(shares, _LEAST) / 4) for shares in votes.shares[:2]]
    match = 4 * votes.match.movedim(0, 2) - 2
    others = previous.sum(1, keepdim=True) - previous
    what = F.pixel_unshuffle((foreground / 4).clamp(-2, 2), SUB)[:, None].expand(-1, n, -1, -1, -1)
    last = cells(2 * previous - 1)
    coarse = F.avg_pool2d(previous, SUB)
    near = [_mean_around(coarse, radius)[:, :, None] for radius in (3, 9)]
    both = cells(others.clamp(max=1))
    rivals = [
        highest_other(maps, least)
        for maps, least in zip((*odds, learning), (_LEAST_ODDS, _LEAST_ODDS, -1.0), strict=True)
    ]
    return torch.cat((*odds, steady, learning, last, what, both, *rivals, match, *near), 2)


def _mean_around(maps: Tensor, radius: int) -> Tensor:
    """Mean of the square of ``radius`` cells around each cell of maps ``(..., h, w)``, within the maps;
    as products of matrices, a tenth of the time of pooling."""
    rows, columns = (_means(size, radius, maps) for size in maps.shape[-2:])
    return rows @ maps @ columns.T


def _means(size: int, radius: int, like: Tensor) -> Tensor:
    """The matrix ``(size, size)`` that takes means of ``radius`` values around each."""
    places = torch.arange(size, device=like.device)
    near = ((places[:, None] - places).abs() <= radius).to(like)
    return near / near.sum(1, keepdim=True)


def highest_other(maps: Tensor, least: float, dim: int = 1) -> Tensor:
    """Of maps with objects along ``dim`` the highest of the others; ``least`` where there is none."""
    parts = maps.unbind(dim)
    if len(parts) < 2:
        return torch.full_like(maps, least)
    # Of those before and of those after each: `topk` takes twenty times as long.
    before = list(accumulate(parts[:-1], torch.maximum))
    after = list(accumulate(parts[:0:-1], torch.maximum))[::-1]
    between = [torch.maximum(*pair) for pair in zip(before[:-1], after[1:], strict=True)]
    return torch.stack((after[0], *between, before[-1]), dim)


def fuse(decoded: Tensor, shares: Tensor, learning: Tensor) -> Tensor:
    """The decoder's log-odds and, with the same say, what the memory and the classifier say by
    themselves. ``shares``, of all frames together, and log-odds ``(B, N, 2h, 2w)``; ``learning`` as in
    `clues`.

    A decoder that has seen synthetic clips only believes a match too much, and a thing that turns has
    parts that match nothing; the plain sum of log-odds errs in other places (docs/accuracy.md).
    """
    scores = F.pixel_shuffle(learning.flatten(1, 2), SUB)
    return 0.5 * decoded + 0.5 * torch.logit(shares, _LEAST) + 2.5 * scores


class Looked(NamedTuple):
    """What `Decoder` reads in the frame alone: ``context`` ``(B, C, h, w)``, ``query`` and ``key``
    ``(B, K, h / 2, w / 2)``, unit vectors."""

    context: Tensor
    query: Tensor
    key: Tensor

    def cut(self, place: Place) -> Looked:
        """A window of it."""
        return Looked(*(place.cut(maps, s) for maps, s in zip(self, (8, 16, 16), strict=True)))


class Decoder(nn.Module):
    """Two rounds at stride 8 with 2x2 values per cell (stride 4 out).

    The first sees its neighbourhood, the second also what the look-alikes of each place have been given
    by the first, anywhere in the frame, which fills holes and removes islands.
    """

    def __init__(self, width: int = 96, hidden: int = 40, key: int = 32) -> None:
        super().__init__()
        self.shared = Conv2d(width, hidden, 3, padding=1)
        self.own = Conv2d(CHANNELS, hidden, 3, padding=1)
        self.near = Conv2d(hidden, hidden, 3, padding=1)
        self.far = Conv2d(hidden, hidden, 3, padding=3, dilation=3)
        self.wide = Conv2d(hidden, hidden, 3, padding=2, dilation=2)
        self.first = Conv2d(hidden, CELLS, 3, padding=1)
        self.query = Conv2d(width, key, 1)
        self.key = Conv2d(width, key, 1)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.again = Conv2d(CELLS + 1, hidden, 3, padding=1)
        self.last = Conv2d(hidden, hidden, 3, padding=1)
        self.second = Conv2d(hidden, CELLS, 3, padding=1)
        self.trust = nn.Parameter(torch.tensor([1.0, 1.0, 0.5, 2.0]))
        for out in (self.first, self.second):
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)  # type: ignore[arg-type]

    def forward(self, embedding: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """`look` and `decode`; ``embedding`` ``(B, C, h, w)``."""
        return self.decode(self.look(embedding), known)

    def look(self, embedding: Tensor) -> Looked:
        """What is the same for all objects."""
        return Looked(self.shared(embedding), *projected(embedding, self.query, self.key))

    def decode(self, looked: Looked, known: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds of both rounds, ``(B, N, 2h, 2w)`` each; the second is the result.

        ``known`` ``(B, N, CHANNELS, h, w)``: of `clues`.
        """
        b, n = known.shape[:2]
        start = (known[:, :, : 4 * CELLS].unflatten(2, (4, CELLS)) * self.trust.view(4, 1, 1, 1)).sum(2)
        x = self.own(known.flatten(0, 1), RELU, add=looked.context.repeat_interleave(n, 0))
        x = x + self.near(x, RELU)
        wide = self.wide(F.avg_pool2d(x, 2, ceil_mode=True), RELU)
        x = x + F.interpolate(wide, size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = x + self.far(x, RELU)
        first = self.first(x, add=start.flatten(0, 1))
        alike = self._alike(looked, first.mean(1).sigmoid().unflatten(0, (b, n)))
        x = x + self.again(torch.cat((first.clamp(-8, 8) / 4, 2 * alike - 1), 1), RELU)
        x = x + self.last(x, RELU)
        second = self.second(x, add=first)
        both = F.pixel_shuffle(torch.cat((first, second)), SUB)[:, 0]
        one, two = both.unflatten(0, (2, b, n))
        return one, two

    def _alike(self, looked: Looked, shares: Tensor) -> Tensor:
        """Shares ``(B, N, h, w)`` as the look-alikes of each place have them, ``(B N, 1, h, w)``."""
        known = F.avg_pool2d(shares, 2, ceil_mode=True)
        alike = as_look_alikes(looked.query, looked.key, self.log_scale.exp(), known)
        alike = alike.flatten(0, 1)[:, None]
        return F.interpolate(alike, size=shares.shape[-2:], mode="bilinear", align_corners=False)
