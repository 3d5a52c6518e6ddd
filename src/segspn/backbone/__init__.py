"""Feature extractors behind one registry."""

from __future__ import annotations

from torch import nn

from segspn.backbone.efficientnet_lite0 import EfficientNetLite0
from segspn.backbone.frame import ALIGN, Frame, label_shares

__all__ = ["ALIGN", "EfficientNetLite0", "Frame", "label_shares", "load_backbone"]


def load_backbone() -> EfficientNetLite0:
    """EfficientNet-Lite0 with the shipped ImageNet weights, fused for inference."""
    import torch

    from segspn.weights import load_weights

    backbone = EfficientNetLite0()
    load_weights(backbone, "efficientnet_lite0")
    fused: EfficientNetLite0 = backbone.eval().fuse()
    nn.Module.requires_grad_(fused, False)
    return fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
