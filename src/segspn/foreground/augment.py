"""Augmented copies of an annotated frame (paper section 1): scale, rotation, shift, flip, colour.

Image and labels are warped by one transform (the authors' loader crops them apart when it scales up).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class AugmentConfig:
    """The paper's ranges by default, plus a light colour jitter."""

    copies: int = 11
    scale: float = 0.05  # share
    rotation: float = 5.0  # degrees
    shift: float = 0.10  # share of the frame
    flip: bool = True  # every second copy is mirrored
    colour: float = 0.05


def augmented_copies(
    frame: np.ndarray, labels: np.ndarray, config: AugmentConfig, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The frame itself first, then ``copies`` warped versions; same sizes and dtypes.

    ``frame``: uint8 ``(H, W, 3)``; ``labels``: int32 ``(H, W)``. Pixels from outside the frame are
    mirrored in the image and in the labels alike, so a copy is always a valid sample.
    """
    rng = np.random.default_rng(seed)
    h, w = labels.shape
    out = [(frame, labels)]
    for k in range(config.copies):
        angle = rng.uniform(-config.rotation, config.rotation)
        scale = 1 + rng.uniform(-config.scale, config.scale)
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, scale)
        matrix[:, 2] += rng.uniform(-config.shift, config.shift, 2) * (w, h)
        if config.flip and k % 2 == 0:
            matrix = matrix @ np.array([[-1, 0, w - 1], [0, 1, 0], [0, 0, 1]], float)
        border = cv2.BORDER_REFLECT_101
        image = cv2.warpAffine(frame, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=border)
        # warpAffine has no int32: float32 is exact for ids up to 2**24.
        warped = cv2.warpAffine(
            labels.astype(np.float32), matrix, (w, h), flags=cv2.INTER_NEAREST, borderMode=border
        )
        gain = np.exp(rng.normal(0, config.colour, 3))
        offset = 255 * rng.normal(0, config.colour / 2)
        table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
        out.append((cv2.LUT(image, table.reshape(1, 256, 3)), warped.astype(labels.dtype)))
    return out
