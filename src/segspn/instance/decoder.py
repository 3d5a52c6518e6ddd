"""Decoder: memory votes, the previous mask and the frame's embedding -> per-object log-odds.

Trained offline on synthetic scenes. The memory says what looks like the object, the previous mask
where it was, the embedding where things end; together they make a sharper and steadier score than
any of them. Its weights are shared by all objects, and so is the part that reads the embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.foreground.parent import SUB


class Decoder(nn.Module):
    """Residual on the memory's log-odds, at stride 8 with 2x2 values per cell (stride 4 out)."""

    def __init__(self, width: int = 96, hidden: int = 32) -> None:
        super().__init__()
        self.shared = nn.Conv2d(width, hidden, 3, padding=1)
        self.own = nn.Conv2d(2 * SUB * SUB, hidden, 3, padding=1)
        self.near = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.far = nn.Conv2d(hidden, hidden, 3, padding=3, dilation=3)
        self.out = nn.Conv2d(hidden, SUB * SUB, 3, padding=1)

    def forward(self, embedding: Tensor, memory: Tensor, previous: Tensor) -> Tensor:
        """Log-odds of every object.

        ``embedding`` ``(B, C, h, w)``; ``memory`` and ``previous`` ``(B, N, 2h, 2w)`` in 0..1: the
        memory's shares, and the last accepted mask (0.5 everywhere: unknown). Returns
        ``(B, N, 2h, 2w)``.
        """
        b, n = memory.shape[:2]
        votes = F.pixel_unshuffle(torch.logit(memory, 1e-4).flatten(0, 1)[:, None], SUB)
        last = F.pixel_unshuffle(previous.flatten(0, 1)[:, None], SUB)
        frame = self.shared(embedding).repeat_interleave(n, 0)
        x = F.relu(frame + self.own(torch.cat((votes / 4, 2 * last - 1), 1)))
        x = x + F.relu(self.near(x))
        x = x + F.relu(self.far(x))
        logits = F.pixel_shuffle(votes + self.out(x), SUB)
        return logits[:, 0].unflatten(0, (b, n))
