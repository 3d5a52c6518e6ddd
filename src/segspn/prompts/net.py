"""The net that finds what is hinted at: features, hints and the last answer -> log-odds at stride 4.

In the line of interactive segmentation nets that take clicks as maps and their last answer back
(Sofiiuk et al., "Reviving Iterative Training with Mask Guidance", 2021), on frozen features. It sees a
window around what is meant, so that objects of any size come in at about the same one.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.foreground.parent import SUB, Trunk

MAPS = 7  # of hints
_NEAR, _FAR = 2.0, 12.0  # reach of a seed, in cells of stride 4


def hint_maps(
    positive: np.ndarray,
    negative: np.ndarray,
    box: tuple[float, float, float, float] | None,
    previous: np.ndarray | None,
) -> np.ndarray:
    """Hints on the grid of stride 4, as the net reads them: float32 ``(MAPS, h, w)``.

    ``positive``, ``negative``: bool ``(h, w)``, cells that are marked; ``box``: (x0, y0, x1, y1) in
    cells; ``previous``: the last answer ``(h, w)`` in 0..1. The maps: nearness to what is marked, twice
    each; the box (1 inside, -1 outside, 0 without one); the last answer (-1..1, 0 without one), and
    whether there is one.
    """
    h, w = positive.shape
    maps = np.zeros((MAPS, h, w), np.float32)
    for k, seeds in enumerate((positive, negative)):
        if seeds.any():
            distance = cv2.distanceTransform((~seeds).astype(np.uint8), cv2.DIST_L2, 3)
            maps[2 * k], maps[2 * k + 1] = np.exp(-distance / _NEAR), np.exp(-distance / _FAR)
    if box is not None:
        x0, y0, x1, y1 = box
        across = np.clip(np.arange(w) + 1 - x0, 0, 1) * np.clip(x1 - np.arange(w), 0, 1)
        down = np.clip(np.arange(h) + 1 - y0, 0, 1) * np.clip(y1 - np.arange(h), 0, 1)
        maps[4] = 2 * down[:, None] * across[None] - 1
    if previous is not None:
        maps[5], maps[6] = 2 * previous - 1, 1
    return maps


class _Block(nn.Module):
    """Residual: depthwise 5x5, then two 1x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(F.relu(self.expand(self.depthwise(F.relu(x)))))
        return x + out


class PromptNet(nn.Module):
    """Backbone features (strides 4 to 32) and hints -> log-odds ``(B, 1, 4h, 4w)`` for stride 32's
    ``(h, w)`` times 8, that is, stride 4.

    It has a trunk and keys of its own, copies of those of the parent net that it was trained with: other
    weights of that one do not matter here.
    """

    def __init__(self, channels: Mapping[int, int], width: int = 96, hidden: int = 64) -> None:
        super().__init__()
        wide, widest, fine = hidden + hidden // 2, 2 * hidden, hidden // 4
        self.trunk = Trunk(channels, width)
        self.key = nn.Conv2d(width, 64, 1)
        self.norm = nn.ModuleDict(
            {str(s): nn.BatchNorm2d(channels[s], affine=False) for s in (4, 16, 32)}
        )
        self.look = nn.Conv2d(width, hidden, 1)
        self.hints = nn.Conv2d(MAPS * SUB * SUB, hidden, 3, padding=1)
        self.alike = nn.Conv2d(2, hidden, 1)
        self.enter = _Block(hidden)
        self.down16 = nn.Conv2d(hidden, wide, 3, stride=2, padding=1)
        self.lateral16 = nn.Conv2d(channels[16], wide, 1)
        self.block16 = _Block(wide)
        self.down32 = nn.Conv2d(wide, widest, 3, stride=2, padding=1)
        self.lateral32 = nn.Conv2d(channels[32], widest, 1)
        self.block32 = nn.Sequential(_Block(widest), _Block(widest))
        self.overall = nn.Conv2d(widest, widest, 1)
        self.up16 = nn.Conv2d(widest, wide, 1)
        self.leave16 = _Block(wide)
        self.up8 = nn.Conv2d(wide, hidden, 1)
        self.leave8 = nn.Sequential(_Block(hidden), _Block(hidden))
        self.up4 = nn.Conv2d(hidden, fine * SUB * SUB, 3, padding=1)
        self.lateral4 = nn.Conv2d(channels[4], fine, 1)
        self.hints4 = nn.Conv2d(MAPS, fine, 3, padding=1)
        self.near = nn.Conv2d(fine, fine, 3, padding=1)
        self.out = nn.Conv2d(fine, 1, 3, padding=1)

    def forward(self, features: Mapping[int, Tensor], hints: Tensor) -> Tensor:
        """``features``: stride -> ``(B, C, H / stride, W / stride)``; ``hints`` ``(B, MAPS, H / 4,
        W / 4)``. Returns ``(B, 1, H / 4, W / 4)``."""
        embedding = self.trunk(features)
        alike = self._alike(embedding, hints)
        x = self.look(embedding) + self.hints(F.pixel_unshuffle(hints, SUB)) + self.alike(alike)
        x8 = self.enter(x)
        x16 = self.down16(F.relu(x8)) + self.lateral16(self.norm["16"](features[16]))
        x16 = self.block16(x16)
        x32 = self.down32(F.relu(x16)) + self.lateral32(self.norm["32"](features[32]))
        x32 = self.block32(x32)
        x32 = x32 + self.overall(F.relu(x32).mean((2, 3), keepdim=True))
        x16 = self.leave16(x16 + _double(self.up16(F.relu(x32))))
        x8 = self.leave8(x8 + _double(self.up8(F.relu(x16))))
        x4 = F.pixel_shuffle(self.up4(F.relu(x8)), SUB)
        x4 = F.relu(x4 + self.lateral4(self.norm["4"](features[4])) + self.hints4(hints))
        x4 = x4 + F.relu(self.near(x4))
        logits: Tensor = self.out(x4)
        return logits

    def _alike(self, embedding: Tensor, hints: Tensor) -> Tensor:
        """How much each cell looks like the most similar one that is marked, as the object's and as
        not: cosines ``(B, 2, h, w)``, 0 where nothing is marked so. Outside the box is not."""
        b, _, h, w = embedding.shape
        keys = F.normalize(self.key(embedding).flatten(2), dim=1)
        cosine = keys.transpose(1, 2) @ keys  # (B, hw, hw)
        not_it = torch.maximum(hints[:, 2], (hints[:, 4] < -0.99).to(hints))
        seeds = torch.stack((hints[:, 0], not_it), 1)
        seeds = F.max_pool2d(seeds, SUB).flatten(2) > 0.99
        out = []
        for seed in seeds.unbind(1):
            best = cosine.masked_fill(~seed[:, :, None], -1.0).amax(1)
            out.append(torch.where(seed.any(1, keepdim=True), best, 0.0))
        return torch.stack(out, 1).view(b, 2, h, w)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
