"""ResNet-101 as a feature extractor: res3, res4 and res5 (strides 8, 16, 32), no classifier.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), with torchvision's names, so
that a state dict in torchvision's format loads as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convention import normalise, require_convention

_BLOCKS = (3, 4, 23, 3)
_EXPANSION = 4


class StoredNorm(nn.Module):
    """Batch-norm by stored statistics, in training too (paper section 1); its affine part learns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=1e-5)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the identity or a projection beside them.

    ``first``: the stride is the first 1x1 convolution's, as in the Caffe original; else the 3x3's.
    """

    def __init__(self, cin: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        cout = width * _EXPANSION
        strides = (stride, 1) if first else (1, stride)
        self.conv1 = nn.Conv2d(cin, width, 1, strides[0], bias=False)
        self.bn1 = StoredNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, strides[1], padding=1, bias=False)
        self.bn2 = StoredNorm(width)
        self.conv3 = nn.Conv2d(width, cout, 1, bias=False)
        self.bn3 = StoredNorm(cout)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(
                nn.Conv2d(cin, cout, 1, stride, bias=False), StoredNorm(cout)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        beside = x if self.downsample is None else self.downsample(x)
        return F.relu(y + beside, inplace=True)


class ResNet101(nn.Module):
    """RGB ``(B, 3, H, W)`` in 0..255 -> ``{8: res3, 16: res4, 32: res5}``, stride -> features
    ``(B, C, H / stride, W / stride)``.

    ``convention`` says where the weights come from: ``torchvision``, or ``caffe`` (He et al.'s release
    and nets tuned from it: BGR and mean subtraction, the stride in a block's first convolution, and a
    first pooling without padding). ``H`` and ``W`` must be multiples of 32 with ``caffe``; with
    ``torchvision`` other sizes are rounded up at each stride.
    """

    channels: Mapping[int, int] = {8: 512, 16: 1024, 32: 2048}

    def __init__(self, convention: str) -> None:
        super().__init__()
        self.convention = require_convention(convention)
        caffe = convention == "caffe"
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = StoredNorm(64)
        self.pool = nn.MaxPool2d(3, 2, padding=0 if caffe else 1, ceil_mode=caffe)
        cin = 64
        for i, count in enumerate(_BLOCKS):
            width, blocks = 64 << i, []
            for k in range(count):
                stride = 2 if k == 0 and i > 0 else 1
                blocks.append(Bottleneck(cin, width, stride, caffe))
                cin = width * _EXPANSION
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        x = F.relu(self.bn1(self.conv1(normalise(image, self.convention))), inplace=True)
        x = self.get_submodule("layer1")(self.pool(x))
        res3 = self.get_submodule("layer2")(x)
        res4 = self.get_submodule("layer3")(res3)
        return {8: res3, 16: res4, 32: self.get_submodule("layer4")(res4)}


def torchvision_features(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a torchvision-format ResNet that :class:`ResNet101` has.

    Left out: the classifier ``fc`` and the batch counters, which old files lack.
    """
    return {
        k: v
        for k, v in state.items()
        if not k.startswith("fc.") and not k.endswith("num_batches_tracked")
    }
