"""What the look-alikes of a place have been given: a softmax affinity over a window, at stride 16."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def projected(embedding: Tensor, *nets: nn.Module) -> list[Tensor]:
    """Embedding ``(B, C, h, w)`` -> for each 1x1 projection unit vectors ``(B, K, h / 2, w / 2)``."""
    pooled = F.avg_pool2d(embedding, 2, ceil_mode=True)
    return [F.normalize(net(pooled), dim=1) for net in nets]


def as_look_alikes(query: Tensor, key: Tensor, scale: Tensor, labels: Tensor) -> Tensor:
    """Labels ``(B, N, h, w)`` as those places have them whose ``key`` is like the ``query`` of each,
    both ``(B, K, h, w)``: a convex mix, ``(B, N, h, w)``. ``scale`` sharpens it."""
    weight = (scale * query.flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(2)
    mixed = weight @ labels.flatten(2).transpose(1, 2)
    return mixed.transpose(1, 2).reshape(labels.shape)
