"""Coarse scores as real segmenters make them, from exact masks: training input for the SPN."""

from __future__ import annotations

import cv2
import numpy as np

from segspn.data.synthetic import smooth_noise


def coarse_scores(mask: np.ndarray, rng: np.random.Generator, stride: int = 4) -> np.ndarray:
    """Corrupt an exact mask into a score map at a coarse stride.

    ``mask``: bool ``(H, W)`` -> float32 ``(H / stride, W / stride)`` in 0..1. Contours are displaced by
    a smooth random field, limbs and holes appear and vanish at blobs, and the result is blurred to a
    random effective resolution between stride 4 and 16.
    """
    h, w = mask.shape
    x: np.ndarray = mask.astype(np.float32)
    field = smooth_noise((h, w), rng.uniform(8, 40), rng, 2) * rng.uniform(0, 5)
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)
    at = grid + field
    moved = cv2.remap(
        x, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if rng.random() < 0.5:  # missing or extra blobs
        blobs = smooth_noise((h, w), rng.uniform(6, 20), rng, 1)[..., 0]
        near = cv2.GaussianBlur(moved, (0, 0), 8)
        moved = np.where((blobs > 1.8) & (near > 0.05), rng.uniform(0, 1), moved)
    blur = rng.uniform(1.0, 5.0)
    moved = cv2.GaussianBlur(moved, (0, 0), blur)
    coarse = cv2.resize(moved, (w // stride, h // stride), interpolation=cv2.INTER_AREA)
    sharpness = rng.uniform(3, 10)
    shift = rng.normal(0, 0.12)  # scores that are too generous or too shy
    logit = sharpness * (coarse - 0.5 + shift) + rng.normal(0, 0.3, coarse.shape)
    return (1 / (1 + np.exp(-logit))).astype(np.float32)
