"""Evidence: what the given mask and the image together say of each pixel, before propagation.

Propagation moves values along the image's structure; it cannot know that a given value is wrong in the
first place. This net can: it sees the mask, the frame's embedding and, in a video, what other frames
say, and answers with a correction, with how far the given value is to be trusted, and with where the
result must not be smoothed by propagation (thin parts). Everything that depends on the image alone is
computed once for all objects.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convolution import RELU, Conv2d
from segspn.backbone.place import Place
from segspn.instance.lookalikes import as_look_alikes, projected


class Looked(NamedTuple):
    """What `MaskEvidence` reads in the image alone: ``context`` ``(B, C, H/8, W/8)``, ``query`` and
    ``key`` ``(B, K, H/16, W/16)``, unit vectors, and ``fine`` ``(B, F, H/4, W/4)``."""

    context: Tensor
    query: Tensor
    key: Tensor
    fine: Tensor

    def cut(self, place: Place) -> Looked:
        """A window of it."""
        return Looked(*(place.cut(maps, s) for maps, s in zip(self, (8, 16, 16, 4), strict=True)))


class MaskEvidence(nn.Module):
    """Features, embedding and given log-odds -> log-odds to be propagated.

    Two looks at a mask: at stride 8, where a softmax affinity over the whole frame says which label the
    look-alikes of a place carry (islands, holes, missing parts), and at stride 4 along the contour.
    """

    def __init__(
        self,
        embedding: int = 96,
        detail: int = 16,
        hidden: int = 32,
        fine: int = 16,
        key: int = 32,
    ) -> None:
        super().__init__()
        self.query = Conv2d(embedding, key, 1)
        self.key = Conv2d(embedding, key, 1)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.shared = Conv2d(embedding, hidden, 3, padding=1)
        self.own = Conv2d(9, hidden, 3, padding=1)
        self.near = Conv2d(hidden, hidden, 3, padding=1)
        self.far = Conv2d(hidden, hidden, 3, padding=3, dilation=3)
        self.up = Conv2d(hidden, fine * 4, 1)
        self.shared_fine = Conv2d(4 * detail, fine, 1)
        self.own_fine = Conv2d(5, fine, 3, padding=1)
        self.mix = Conv2d(fine, fine, 3, padding=1)
        self.out = Conv2d(fine, 12, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        start = [0.0] * 4 + [2.0] * 4 + [-2.0] * 4  # no change, much trust, little held back
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor(start))  # type: ignore[union-attr]

    def forward(
        self, detail: Tensor, embedding: Tensor, given: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`look` and `judge`: what to propagate, and where not to."""
        return self.judge(self.look(detail, embedding), given, memory)

    def look(self, detail: Tensor, embedding: Tensor) -> Looked:
        """What is the same for all objects.

        ``detail`` ``(B, D, H/2, W/2)``, of the guidance; ``embedding`` ``(B, C, H/8, W/8)``.
        """
        query, key = projected(embedding, self.query, self.key)
        # The projection of cells of 2x2 pixels is a convolution with stride 2, which need not shuffle.
        weight = self.shared_fine.weight
        weight = weight.reshape(len(weight), -1, 2, 2)
        return Looked(
            self.shared(embedding),
            query,
            key,
            F.conv2d(detail, weight, self.shared_fine.bias, stride=2),
        )

    def judge(
        self, looked: Looked, given: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What to propagate, and where not to.

        Args:
            looked: of the image.
            given: log-odds ``(B, N, H, W)``.
            memory: shares ``(B, N, H/4, W/4)`` in 0..1 that other frames of the video vote for, if any.

        Returns:
            Log-odds ``(B, N, H, W)``, and how much of them is to be held against propagation, 0..1.
        """
        from segspn.spn.enlarge import halved, judged  # which loads numba

        b, n = given.shape[:2]
        half = halved(given)
        quarter = F.avg_pool2d(half, 2)
        votes = self.votes(looked, F.avg_pool2d(quarter, 4).unflatten(0, (b, n))[:, :, 0])
        if memory is None:
            seen = torch.zeros_like(quarter)
        else:
            seen = memory.flatten(0, 1)[:, None] * 2 - 1
        cells = F.pixel_unshuffle(torch.cat((quarter, seen), 1), 2)
        known = torch.cat((cells, votes.flatten(0, 1)[:, None]), 1)
        x = self.own(known, RELU, add=looked.context.repeat_interleave(n, 0))
        x = x + self.near(x, RELU)
        x = x + self.far(x, RELU)
        y = looked.fine.repeat_interleave(n, 0) + F.pixel_shuffle(self.up(x), 2)
        y = self.own_fine(torch.cat((F.pixel_unshuffle(half, 2), seen), 1), RELU, add=y)
        y = y + self.mix(y, RELU)
        return judged(self.out(y), given)

    def votes(self, looked: Looked, labels: Tensor) -> Tensor:
        """Labels at stride 16, ``(B, N, H/16, W/16)``, as the look-alikes of each place have them:
        ``(B, N, H/8, W/8)``."""
        votes = as_look_alikes(looked.query, looked.key, self.log_scale.exp(), labels)
        return F.interpolate(votes, scale_factor=2, mode="bilinear", align_corners=False)
