"""Sharpen the masks of one image: the SPN without a video."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from segspn.backbone import load_backbone
from segspn.foreground import ParentNet
from segspn.spn.refiner import SpnRefiner
from segspn.weights import load_weights


def refine(image: np.ndarray, masks: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Refine masks or scores of any segmenter to the edges of their image (paper section 3).

    ``image``: uint8 RGB ``(H, W, 3)``; ``masks``: ``(N, H, W)`` or ``(H, W)``, bool or scores in 0..1.
    Returns float32 scores in 0..1 of the masks' shape; above 0.5 is object. The shipped networks are
    loaded at the first call. Raises ValueError for other shapes or values.

    >>> sharp = segspn.refine(image, mask) > 0.5
    """
    scores = np.asarray(masks, dtype=np.float32)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if scores.ndim not in (2, 3) or scores.shape[-2:] != image.shape[:2]:
        raise ValueError(f"masks {scores.shape} must be (N, H, W) of the image's {image.shape[:2]}")
    # `not (...)` so that NaN fails as well.
    if not (scores.min(initial=0.0) >= 0 and scores.max(initial=0.0) <= 1):
        raise ValueError("masks must be bool or scores in 0..1")
    stack = scores.reshape(-1, *scores.shape[-2:])
    return _refiner(device).refine_pixels(image, stack).reshape(scores.shape)


@lru_cache(maxsize=2)
def _refiner(device: str) -> SpnRefiner:
    backbone = load_backbone()
    parent = ParentNet(backbone.channels)
    load_weights(parent, "parent")
    return SpnRefiner.load(backbone, parent.eval(), device)
