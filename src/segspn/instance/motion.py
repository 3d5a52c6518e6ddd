"""Motion between two frames: it carries the last masks to where their objects are now.

What moves as one keeps its name: where two objects look alike, their places are all that tells them
apart. Dense inverse search (Kroeger et al., ECCV 2016; OpenCV's) finds the flow on a picture of half
the size, in about two milliseconds at 480p.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone.frame import Frame

_SMALLEST = 32  # pixels of a side that the finder can still do


def grey(frame: Frame) -> Tensor:
    """A frame's luminance at half the size, uint8 ``(Hp / 2, Wp / 2)``."""
    return frame.once("grey", lambda: half_grey(frame.pixels))


def half_grey(pixels: np.ndarray) -> Tensor:
    """RGB uint8 ``(H, W, 3)``, sides even -> luminance uint8 ``(H / 2, W / 2)``."""
    whole = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    half = cv2.resize(whole, (whole.shape[1] // 2, whole.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(half)


def flow(before: Tensor, now: Tensor) -> Tensor:
    """Where each cell of ``now`` was in ``before``: displacement ``(2, h, w)`` as x, y, in cells.

    Both of `grey`, ``(2h, 2w)``; a cell is one of stride 4. Zero for pictures too small to tell.
    """
    height, width = now.shape
    if min(height, width) < _SMALLEST:
        return torch.zeros(2, height // 2, width // 2)
    # One for each call: it keeps buffers, which threads must not share.
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    found = finder.calc(now.numpy(), before.numpy(), None)  # type: ignore[call-overload]
    small = cv2.resize(found, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1) / 2


def carry(shares: Tensor, displacement: Tensor) -> Tensor:
    """Shares ``(B, N, h, w)`` of the frame before -> where they are now; ``displacement``
    ``(B, 2, h, w)`` of `flow`."""
    h, w = shares.shape[-2:]
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    from_ = torch.stack((x, y)).to(shares) + displacement.to(shares)
    scale = shares.new_tensor([2 / w, 2 / h])[:, None, None]
    grid = ((from_ + 0.5) * scale - 1).permute(0, 2, 3, 1)
    return F.grid_sample(shares, grid, padding_mode="border", align_corners=False)
