"""A frame on its way through the stages: padded image tensor, and features computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALIGN = 32  # frames are padded to a multiple, so that all strides stay aligned


class Frame:
    """``image``: float RGB ``(1, 3, Hp, Wp)`` in 0..255, padded right and bottom by its edge pixels;
    ``pixels``: the same, uint8 ``(Hp, Wp, 3)``.

    ``size`` is the true ``(H, W)``. ``once(key, make)`` computes shared quantities (backbone features,
    embedding) the first time any stage asks for them.
    """

    def __init__(self, pixels: np.ndarray, device: torch.device) -> None:
        h, w = pixels.shape[:2]
        self.size = (h, w)
        self.pixels = cv2.copyMakeBorder(pixels, 0, -h % ALIGN, 0, -w % ALIGN, cv2.BORDER_REPLICATE)
        # The order of the pixels is that of channels-last: no copy but that to float.
        self.image = torch.from_numpy(self.pixels).to(device).permute(2, 0, 1)[None].float()
        self._made: dict[str, Any] = {}

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def features(self, backbone: nn.Module) -> dict[int, Tensor]:
        """The backbone's features of this frame, stride -> ``(1, C, Hp / s, Wp / s)``."""
        features: dict[int, Tensor] = self.once("features", lambda: backbone(self.image))
        return features

    def crop(self, maps: Tensor, stride: int = 1) -> Tensor:
        """Cut the padding off maps ``(..., Hp / stride, Wp / stride)``."""
        h, w = (-(-n // stride) for n in self.size)
        return maps[..., :h, :w]


def pad(maps: Tensor) -> Tensor:
    """Maps ``(B, C, H, W)`` -> ``(B, C, Hp, Wp)``, padded as frames are."""
    h, w = maps.shape[-2:]
    return F.pad(maps, (0, -w % ALIGN, 0, -h % ALIGN), mode="replicate")


def label_shares(labels: np.ndarray, ids: tuple[int, ...], device: torch.device) -> Tensor:
    """Share of each object in every stride-4 cell of the padded frame.

    ``labels``: int32 ``(H, W)`` -> float ``(N, Hp / 4, Wp / 4)`` in 0..1.
    """
    h, w = labels.shape
    labels = labels.astype(np.int32, copy=False)  # the widest that OpenCV pads
    padded = cv2.copyMakeBorder(labels, 0, -h % ALIGN, 0, -w % ALIGN, cv2.BORDER_REPLICATE)
    size = (padded.shape[1] // 4, padded.shape[0] // 4)
    shares = np.empty((len(ids), size[1], size[0]), np.uint8)
    for share, i in zip(shares, ids, strict=True):
        # 15 for each of a cell's 16 pixels: their mean is exact in 8 bits.
        own = (padded == i).view(np.uint8) * np.uint8(240)
        cv2.resize(own, size, dst=share, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(shares).to(device).float().div_(240)
