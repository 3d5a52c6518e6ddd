"""Evidence: what the given mask and the image together say of each pixel, before propagation.

Propagation moves values along the image's structure; it cannot know that a given value is wrong in the
first place. This net can: it sees the mask, the frame's embedding and, in a video, what other frames
say, and answers with a correction, with how far the given value is to be trusted, and with where the
result must not be smoothed by propagation (thin parts). Everything that depends on the image alone is
computed once for all objects.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        self.query = nn.Conv2d(embedding, key, 1)
        self.key = nn.Conv2d(embedding, key, 1)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.shared = nn.Conv2d(embedding, hidden, 3, padding=1)
        self.own = nn.Conv2d(9, hidden, 3, padding=1)
        self.near = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.far = nn.Conv2d(hidden, hidden, 3, padding=3, dilation=3)
        self.up = nn.Conv2d(hidden, fine * 4, 1)
        self.shared_fine = nn.Conv2d(4 * detail, fine, 1)
        self.own_fine = nn.Conv2d(5, fine, 3, padding=1)
        self.mix = nn.Conv2d(fine, fine, 3, padding=1)
        self.out = nn.Conv2d(fine, 12, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        start = [0.0] * 4 + [2.0] * 4 + [-2.0] * 4  # no change, much trust, little held back
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor(start))  # type: ignore[union-attr]

    def forward(
        self, detail: Tensor, embedding: Tensor, given: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What to propagate, and where not to.

        Args:
            detail: ``(B, D, H/2, W/2)``, of the guidance.
            embedding: ``(B, C, H/8, W/8)``.
            given: log-odds ``(B, N, H, W)``.
            memory: shares ``(B, N, H/4, W/4)`` in 0..1 that other frames of the video vote for, if any.

        Returns:
            Log-odds ``(B, N, H, W)``, and how much of them is to be held against propagation, 0..1.
        """
        b, n = given.shape[:2]
        half = F.avg_pool2d(given.sigmoid(), 2).mul(2).sub(1).flatten(0, 1)[:, None]  # -1..1
        quarter = F.avg_pool2d(half, 2)
        votes = self.votes(embedding, F.avg_pool2d(quarter, 4).unflatten(0, (b, n))[:, :, 0])
        if memory is None:
            seen = torch.zeros_like(quarter)
        else:
            seen = memory.flatten(0, 1)[:, None] * 2 - 1
        cells = F.pixel_unshuffle(torch.cat((quarter, seen), 1), 2)
        own = self.own(torch.cat((cells, votes.flatten(0, 1)[:, None]), 1))
        x = F.relu(self.shared(embedding).repeat_interleave(n, 0) + own)
        x = x + F.relu(self.near(x))
        x = x + F.relu(self.far(x))
        y = self.own_fine(torch.cat((F.pixel_unshuffle(half, 2), seen), 1))
        y = y + self.shared_fine(F.pixel_unshuffle(detail, 2)).repeat_interleave(n, 0)
        y = F.relu(y + F.pixel_shuffle(self.up(x), 2))
        y = y + F.relu(self.mix(y))
        change, rest = self.out(y).split((4, 8), 1)
        all_three = F.pixel_shuffle(torch.cat((change, rest.sigmoid()), 1), 2)
        all_three = F.interpolate(all_three, scale_factor=2, mode="bilinear", align_corners=False)
        change, trust, hold = all_three.unflatten(0, (b, n)).unbind(2)
        return change + trust * given, hold

    def votes(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Labels at stride 16, ``(B, N, H/16, W/16)``, as the look-alikes of each place have them:
        ``(B, N, H/8, W/8)``."""
        b, n, h, w = labels.shape
        pooled = F.avg_pool2d(embedding, 2)
        query = F.normalize(self.query(pooled), dim=1).flatten(2)
        key = F.normalize(self.key(pooled), dim=1).flatten(2)
        weight = (self.log_scale.exp() * query.transpose(1, 2) @ key).softmax(2)
        votes = (weight @ labels.flatten(2).transpose(1, 2)).transpose(1, 2).view(b, n, h, w)
        return F.interpolate(votes, scale_factor=2, mode="bilinear", align_corners=False)
