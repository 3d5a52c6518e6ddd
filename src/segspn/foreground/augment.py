"""Augmented copies of an annotated frame (paper section 1): scale, rotation, shift, flip, colour.

Image and labels are warped by one transform (the authors' loader crops them apart when it scales up).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import cv2
import numpy as np
import torch

Sample = tuple[np.ndarray, np.ndarray]  # uint8 RGB (H, W, 3), int32 labels (H, W)


@dataclass(frozen=True)
class AugmentConfig:
    """The paper's ranges by default, plus a light colour jitter."""

    copies: int = 11
    scale: float = 0.05  # share
    rotation: float = 5.0  # degrees
    shift: float = 0.10  # share of the frame
    flip: bool = True  # every second copy is mirrored
    colour: float = 0.05


@dataclass(frozen=True)
class Warp:
    """One copy's transform: ``matrix`` ``(2, 3)`` for the geometry, a colour ``table`` ``(256, 3)``."""

    matrix: np.ndarray
    table: np.ndarray

    def __call__(self, frame: np.ndarray, labels: np.ndarray) -> Sample:
        """Warped frame and labels. Pixels from outside the frame are mirrored in both alike, so the
        copy is always a valid sample."""
        h, w = labels.shape
        border = cv2.BORDER_REFLECT_101
        image = cv2.warpAffine(
            frame, self.matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=border
        )
        # warpAffine has no int32: float32 is exact for ids up to 2**24.
        warped = cv2.warpAffine(
            labels.astype(np.float32),
            self.matrix,
            (w, h),
            flags=cv2.INTER_NEAREST,
            borderMode=border,
        )
        coloured = cv2.LUT(image, self.table.reshape(1, 256, 3))
        return coloured, warped.astype(labels.dtype)


class Copies(Sequence[Sample]):
    """The annotated frame first, then its warped copies, each made when it is asked for.

    A thousand copies of a frame are gigabytes; their transforms, which are drawn beforehand so that
    a copy does not depend on which others were asked for, are nothing.
    """

    def __init__(self, frame: np.ndarray, labels: np.ndarray, warps: Sequence[Warp]) -> None:
        self._original = (frame, labels)
        self._warps = warps

    def __len__(self) -> int:
        return 1 + len(self._warps)

    @overload
    def __getitem__(self, k: int) -> Sample: ...

    @overload
    def __getitem__(self, k: slice) -> list[Sample]: ...

    def __getitem__(self, k: int | slice) -> Sample | list[Sample]:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        i = range(len(self))[k]
        return self._original if i == 0 else self._warps[i - 1](*self._original)


def augmented_copies(
    frame: np.ndarray, labels: np.ndarray, config: AugmentConfig, seed: int
) -> Copies:
    """The frame itself and ``copies`` warped versions; same sizes and dtypes.

    ``frame``: uint8 ``(H, W, 3)``; ``labels``: int32 ``(H, W)``.
    """
    return Copies(frame, labels, _draw_warps(labels.shape[0], labels.shape[1], config, seed))


def _draw_warps(h: int, w: int, config: AugmentConfig, seed: int) -> list[Warp]:
    rng = np.random.default_rng(seed)
    warps = []
    for k in range(config.copies):
        angle = rng.uniform(-config.rotation, config.rotation)
        scale = 1 + rng.uniform(-config.scale, config.scale)
        matrix = np.asarray(cv2.getRotationMatrix2D((w / 2, h / 2), angle, scale), np.float64)
        matrix[:, 2] += rng.uniform(-config.shift, config.shift, 2) * (w, h)
        if config.flip and k % 2 == 0:
            matrix = matrix @ np.array([[-1, 0, w - 1], [0, 1, 0], [0, 0, 1]], float)
        gain = np.exp(rng.normal(0, config.colour, 3))
        offset = 255 * rng.normal(0, config.colour / 2)
        table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
        warps.append(Warp(matrix, table))
    return warps


class Samples:
    """What stages 1 and 2 learn from: the annotated frame, its objects and its augmented copies.

    ``copies`` is lazy. ``once(key, make)`` keeps what several stages need of the samples, such as the
    embeddings of all copies, computed the first time one asks for it.
    """

    def __init__(
        self,
        frame: np.ndarray,
        labels: np.ndarray,
        ids: tuple[int, ...],
        config: AugmentConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self.ids = ids
        self.device = device
        self.copies = augmented_copies(frame, labels, config, seed)
        self._made: dict[str, Any] = {}

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
