"""The published parent net (paper section 1): ResNet-101 with fused res3, res4 and res5.

Beside it, stage 1 made of it: the whole net is fine-tuned on the annotated frame.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.frame import Frame
from segspn.backbone.resnet101 import ResNet101, torchvision_features
from segspn.foreground.augment import Samples
from segspn.foreground.finetune import FineTuneConfig, fine_tune
from segspn.foreground.stage import ForegroundStage, OnStep
from segspn.weights import RANDOM, assign_weights, read_state, seeded

FUSED_SCALE = 0.2  # of res4 and res3 beside res5, whose values are smaller
STRIDE = 8  # of the fused features

_BACKBONE_FILE = (
    "a ResNet-101 state dict in torchvision's format (.pth or .safetensors), such as "
    "https://download.pytorch.org/models/resnet101-63fe2227.pth"
)
_PARENT_FILE = (
    "safetensors of the parent net, either whole (backbone.*, head.*) or its fusion head alone "
    "(reduce.weight 128x3584x1x1, classify.weight 2x128x1x1, and their biases)"
)


class FusionHead(nn.Module):
    """Fused features ``(B, 3584, h, w)`` -> logits ``(B, 2, h, w)``: two 1x1 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 128, 1)
        self.classify = nn.Conv2d(128, 2, 1)

    def forward(self, fused: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.reduce(fused))
        return logits


class ResNetF(nn.Module):
    """RGB ``(B, 3, H, W)`` in 0..255 -> logits ``(B, 2, H, W)`` of background and target.

    ``H`` and ``W`` must be multiples of 32 (the pipeline pads frames).
    """

    def __init__(self, convention: str) -> None:
        super().__init__()
        self.backbone = ResNet101(convention)
        self.head = FusionHead(sum(self.backbone.channels.values()))

    @classmethod
    def load(cls, parent: str, backbone: str, convention: str, seed: int) -> ResNetF:
        """The net from weight files: ``parent`` holds all of it or the fusion head, ``backbone`` the
        ResNet-101 where the parent's file lacks it; either may be ``random``."""
        with seeded(seed):
            net = cls(convention).eval()
        path, state = (None, {}) if parent == RANDOM else read_state(parent, _PARENT_FILE)
        if path is not None and any(k.startswith("backbone.") for k in state):
            assign_weights(net, state, path)
            return net
        if backbone != RANDOM:
            file, features = read_state(backbone, _BACKBONE_FILE)
            assign_weights(net.backbone, torchvision_features(features), file)
        if path is not None:
            assign_weights(net.head, state, path)
        return net

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(fuse(self.backbone(image)))
        return F.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)

    def probability(self, frame: Frame) -> Tensor:
        """Probability ``(Hp, Wp)`` of the target over the padded frame."""
        return self(frame.image).softmax(1)[0, 1]

    def copy(self) -> ResNetF:
        """An independent net with the same weights, ready to be fine-tuned."""
        with torch.inference_mode(False):  # tensors made in inference mode cannot be trained
            return copy.deepcopy(self)


def fuse(features: Mapping[int, Tensor]) -> Tensor:
    """``{8: res3, 16: res4, 32: res5}`` -> ``(B, 2048 + 1024 + 512, H / 8, W / 8)``, res5 first."""
    x = torch.cat((_double(features[32]), FUSED_SCALE * features[16]), 1)
    return torch.cat((_double(x), FUSED_SCALE * features[8]), 1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class NetForegroundConfig:
    """``threshold``: an instance score survives where the foreground's probability exceeds it.

    ``adapt=False`` leaves the parent as it was trained offline.
    """

    threshold: float = 0.5
    adapt: bool = True
    fit: FineTuneConfig = field(default_factory=FineTuneConfig)


class NetForeground(ForegroundStage):
    """A copy of the parent, all of it fine-tuned."""

    def __init__(self, parent: ResNetF, config: NetForegroundConfig) -> None:
        super().__init__(config.threshold)
        self.config, self.parent = config, parent
        self.net = parent.copy() if config.adapt else parent

    def adapt(self, samples: Samples, seed: int, on_step: OnStep | None = None) -> None:
        if self.config.adapt:
            self.net = self.parent.copy()
            fine_tune(self.net, samples, lambda labels: labels > 0, self.config.fit, seed, on_step)

    def predict(self, frame: Frame) -> Tensor:
        return self.net.probability(frame)

    def state(self) -> dict[str, Tensor]:
        """The net; nothing where it is the parent's, which is not the session's."""
        return self.net.state_dict() if self.config.adapt else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        if self.config.adapt:
            self.net.load_state_dict(state)
