"""Guidance net: the image decides where propagation runs and where it stops.

The paper's guidance is a VGG-16 encoder-decoder (``guidance_vgg16``). This one reads the backbone's
features, which are computed anyway, and spends its own arithmetic at stride 2: about 3 GFLOP for a
480p frame against 500.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convolution import RELU, Conv2d


class LightGuidance(nn.Module):
    """Image and features -> gates ``(B, 4, 3, H, W)``, all in 0..1, before normalisation.

    Non-negative gates make the result a convex mix of the input: propagation can move scores, never
    invent them. ``H`` and ``W`` must be multiples of 16 (the pipeline pads frames).
    """

    def __init__(self, channels: Mapping[int, int], width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.norm = nn.ModuleDict(
            {str(s): nn.BatchNorm2d(channels[s], affine=False) for s in (2, 4, 8, 16)}
        )
        self.lateral = nn.ModuleDict(
            {str(s): Conv2d(channels[s], width, 1) for s in (4, 8, 16)}
        )
        self.near = Conv2d(12 + channels[2], width, 3, padding=1)
        self.mix = Conv2d(width, width, 3, padding=1)
        self.out = Conv2d(width, 12 * 4, 1)
        # Start open: each direction's three gates sum to about 0.9.
        nn.init.constant_(self.out.bias, -0.85)  # type: ignore[arg-type]

    def detail(self, image: Tensor, features: Mapping[int, Tensor]) -> Tensor:
        """What the gates are made from, at stride 2: ``(B, width, H/2, W/2)``.

        ``image``: RGB ``(B, 3, H, W)`` in 0..255; ``features``: the backbone's.
        """
        top: Tensor | None = None
        for stride in (16, 8, 4):
            lateral = self.lateral[str(stride)](self.norm[str(stride)](features[stride]))
            top = lateral if top is None else lateral + _double(top)
        assert top is not None
        pixels = F.pixel_unshuffle((image - 127.0) / 64.0, 2)
        fine = torch.cat((pixels, self.norm["2"](features[2])), 1)
        x = self.near(fine, RELU, add=_double(F.relu(top)))
        return x + self.mix(x, RELU)

    def gates(self, detail: Tensor) -> Tensor:
        """The gates of :meth:`detail`."""
        # Planes first: shuffling the pixels of interleaved channels takes twice as long.
        half = self.out(detail.contiguous()).sigmoid_()
        return F.pixel_shuffle(half, 2).unflatten(1, (4, 3))

    def forward(self, image: Tensor, features: Mapping[int, Tensor]) -> Tensor:
        return self.gates(self.detail(image, features))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
