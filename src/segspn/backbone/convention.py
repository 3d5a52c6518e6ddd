"""The two conventions in which published ImageNet weights come."""

from __future__ import annotations

import torch
from torch import Tensor

CONVENTIONS = ("caffe", "torchvision")


def normalise(image: Tensor, convention: str) -> Tensor:
    """RGB ``(B, 3, H, W)`` in 0..255 -> what the first convolution expects, same shape.

    ``caffe``: BGR, the mean subtracted (paper section 1). ``torchvision``: RGB in 0..1, standardised.
    """
    if convention == "caffe":
        return image.flip(1) - image.new_tensor((104.00699, 116.66877, 122.67892)).view(3, 1, 1)
    mean = image.new_tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    deviation = image.new_tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    return torch.div(image, 255).sub(mean).div(deviation)


def require_convention(convention: str) -> str:
    """The name itself; ValueError for an unknown one."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be {' or '.join(CONVENTIONS)}, not {convention!r}")
    return convention
