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

_GREY, _PIXEL_SCALE = 127.0, 64.0


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
        self.pixels: Conv2d | None = None  # of `fuse`
        self.mean: Tensor

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the standardisation into the convolutions after it, and make the pixels' part of `near`
        a convolution of the image itself, which need not be shuffled for it (inference only)."""
        if self.pixels is not None:
            return
        for key, lateral in self.lateral.items():
            assert isinstance(lateral, Conv2d)
            lateral.fold(self.norm[key])
            self.norm[key] = nn.Identity()
        # Zeros around a map are means, which no bias gives: this mean is still taken off.
        norm = self.norm["2"]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        mean, scale = norm.running_mean, (norm.running_var + norm.eps).rsqrt()
        weight = self.near.weight
        pixels, features = weight.split((12, weight.shape[1] - 12), 1)
        # Of 2x2 pixels a cell, as pixel_unshuffle orders them, to 6x6 pixels.
        spread = pixels.unflatten(1, (3, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
        self.pixels = Conv2d(3, self.width, 6, stride=2, padding=2, bias=False).to(weight.device)
        self.pixels.weight.copy_(spread / _PIXEL_SCALE)
        near = Conv2d(len(scale), self.width, 3, padding=1).to(weight.device)
        near.weight.copy_(features * scale[:, None, None])
        assert near.bias is not None and self.near.bias is not None
        near.bias.copy_(self.near.bias)
        self.near = near
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        del self.norm["2"]

    def detail(self, image: Tensor, features: Mapping[int, Tensor]) -> Tensor:
        """What the gates are made from, at stride 2: ``(B, width, H/2, W/2)``.

        ``image``: RGB ``(B, 3, H, W)`` in 0..255; ``features``: the backbone's.
        """
        top: Tensor | None = None
        for stride in (16, 8, 4):
            lateral = self.lateral[str(stride)](self.norm[str(stride)](features[stride]))
            top = lateral if top is None else lateral + _double(top)
        assert top is not None
        coarse, pixels = _double(F.relu(top)), image - _GREY
        if self.pixels is None:
            cells = F.pixel_unshuffle(pixels / _PIXEL_SCALE, 2)
            x = self.near(torch.cat((cells, self.norm["2"](features[2])), 1), RELU, add=coarse)
        else:
            x = self.near(features[2] - self.mean, RELU, add=self.pixels(pixels, add=coarse))
        return x + self.mix(x, RELU)

    def gates(self, detail: Tensor) -> Tensor:
        """The gates of :meth:`detail`."""
        return F.pixel_shuffle(self.cells(detail).sigmoid(), 2).unflatten(1, (4, 3))

    def cells(self, detail: Tensor) -> Tensor:
        """The gates' log-odds, before their 2x2 pixels a cell are spread: ``(B, 48, H/2, W/2)``,
        float32, in the order of channels-last."""
        detail = detail.contiguous(memory_format=torch.channels_last)
        return self.out(detail).float()

    def forward(self, image: Tensor, features: Mapping[int, Tensor]) -> Tensor:
        return self.gates(self.detail(image, features))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
