"""The parent net: a trunk that embeds a frame, and the head that says what is foreground.

Paper section 1 in today's form. The authors fuse res3, res4 and res5 of a ResNet-101 and train all of
it; here the backbone stays frozen, a light trunk fuses its strides 4 to 32 into one embedding at
stride 8, and everything downstream reads that embedding: the foreground head, the per-object heads
(which start as copies of the foreground head) and the keys of the appearance memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convolution import RELU, Conv2d

SUB = 2  # each cell predicts SUB x SUB values, so that scores come out at stride 4


class Trunk(nn.Module):
    """Backbone features at strides 4, 8, 16, 32 -> one embedding ``(B, width, H/8, W/8)``.

    The stride-4 map enters by space-to-depth: its detail survives at stride 8, which is what lets the
    head predict at stride 4 again. Per-channel standardisation of the inputs matters (published and
    measured: uncentred features match far worse); it is a batch-norm without learned scale.
    """

    def __init__(self, channels: Mapping[int, int], width: int = 96) -> None:
        super().__init__()
        self.width = width
        inputs = {4: channels[4] * 4, 8: channels[8], 16: channels[16], 32: channels[32]}
        self.norm = nn.ModuleDict(
            {str(s): nn.BatchNorm2d(channels[s], affine=False) for s in inputs}
        )
        # 1x1 convolutions commute with bilinear upsampling: the coarse strides are projected first.
        self.lateral = nn.ModuleDict({str(s): Conv2d(c, width, 1) for s, c in inputs.items()})
        self.depthwise = Conv2d(width, width, 5, padding=2, groups=width)
        self.expand = Conv2d(width, 2 * width, 1)
        self.project = Conv2d(2 * width, width, 1)

    def fuse(self) -> None:
        """Fold the standardisation into the projections after it (inference only)."""
        for key, lateral in self.lateral.items():
            norm = self.norm[key]
            if isinstance(norm, nn.Identity):
                continue
            assert isinstance(lateral, Conv2d)
            lateral.fold(norm, SUB * SUB if key == "4" else 1)  # as pixel_unshuffle orders channels
            self.norm[key] = nn.Identity()

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        size = features[8].shape[-2:]
        total: Tensor | None = None
        for key, lateral in self.lateral.items():
            x = self.norm[key](features[int(key)])
            if key == "4":
                x = F.pixel_unshuffle(x, SUB)
            if x.shape[-2:] == size:
                total = lateral(x, add=total)
                continue
            x = F.interpolate(lateral(x), size=size, mode="bilinear", align_corners=False)
            total = x if total is None else total + x
        assert total is not None
        y = self.expand(self.depthwise(F.relu(total)), RELU)
        out: Tensor = self.project(y, add=total)
        return out


class Head(nn.Module):
    """Embedding -> foreground logit at stride 4: two 3x3 convolutions and a pixel shuffle."""

    def __init__(self, width: int = 96, hidden: int = 32) -> None:
        super().__init__()
        self.conv1 = Conv2d(width, hidden, 3, padding=1)
        self.conv2 = Conv2d(hidden, SUB * SUB, 3, padding=1)

    def forward(self, embedding: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv2(self.conv1(embedding, RELU)), SUB)


class Matcher(nn.Module):
    """The memory's keys by a trunk of their own: features -> unit vectors ``(B, key, H/8, W/8)``."""

    def __init__(self, channels: Mapping[int, int], width: int = 96, key: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(channels, width)
        self.key = Conv2d(width, key, 1)

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        return F.normalize(self.key(self.trunk(features)), dim=1)

    def begin_as(self, parent: ParentNet) -> None:
        """Take over the weights of a parent's own trunk and keys."""
        self.trunk.load_state_dict(parent.trunk.state_dict())
        self.key.load_state_dict(parent.key.state_dict())


class ParentNet(nn.Module):
    """Trunk, foreground head and the projection that makes the memory's keys.

    ``embed(features)`` gives the embedding ``(B, width, H/8, W/8)``; ``foreground(embedding)`` the
    foreground logit ``(B, 1, H/4, W/4)``; ``keys(embedding)`` unit vectors ``(B, key, H/8, W/8)``, which
    ``matcher`` makes where one has been trained (`segspn.training.matching`).
    """

    def __init__(
        self, channels: Mapping[int, int], width: int = 96, hidden: int = 32, key: int = 64
    ) -> None:
        super().__init__()
        self.trunk = Trunk(channels, width)
        self.head = Head(width, hidden)
        self.key = Conv2d(width, key, 1)
        # Temperature of the matching softmax, learned in training: weight = exp(scale * cosine).
        self.log_scale = nn.Parameter(torch.tensor(3.4))
        self.matcher: Matcher | None = None

    def embed(self, features: Mapping[int, Tensor]) -> Tensor:
        return self.trunk(features)

    def foreground(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)

    def keys(self, embedding: Tensor) -> Tensor:
        return F.normalize(self.key(embedding), dim=1)

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()
