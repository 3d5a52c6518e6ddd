"""Feature extractors behind one registry."""

from __future__ import annotations

import torch
from torch import nn

from segspn.backbone.efficientnet_lite0 import EfficientNetLite0
from segspn.backbone.frame import ALIGN, Frame, label_shares, pad
from segspn.backbone.place import Place, covered, search_places
from segspn.backbone.resnet101 import ResNet101

__all__ = [
    "ALIGN",
    "EfficientNetLite0",
    "Frame",
    "Place",
    "ResNet101",
    "covered",
    "label_shares",
    "load_backbone",
    "pad",
    "search_places",
]


def load_backbone(weights: str = "efficientnet_lite0") -> EfficientNetLite0:
    """EfficientNet-Lite0, fused for inference; by default with the shipped ImageNet weights."""
    from segspn.weights import load_weights

    backbone = EfficientNetLite0()
    load_weights(backbone, weights)
    fused: EfficientNetLite0 = backbone.eval().fuse()
    nn.Module.requires_grad_(fused, False)
    return fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
