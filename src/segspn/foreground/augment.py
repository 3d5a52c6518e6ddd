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
    """The annotated frames first, then their warped copies, each made when it is asked for.

    A thousand copies of a frame are gigabytes; their transforms, which are drawn beforehand so that
    a copy does not depend on which others were asked for, are nothing. The annotated frames take
    turns with the warps.
    """

    def __init__(self, originals: Sequence[Sample], warps: Sequence[Warp]) -> None:
        self._originals = originals
        self._warps = warps

    def __len__(self) -> int:
        return len(self._originals) + len(self._warps)

    @overload
    def __getitem__(self, k: int) -> Sample: ...

    @overload
    def __getitem__(self, k: slice) -> list[Sample]: ...

    def __getitem__(self, k: int | slice) -> Sample | list[Sample]:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        i = range(len(self))[k]
        if i < len(self._originals):
            return self._originals[i]
        warp = self._warps[i - len(self._originals)]
        return warp(*self._originals[self.original(i)])

    def original(self, k: int) -> int:
        """Position of the annotated frame that copy ``k`` was made from."""
        return k % len(self._originals)


def augmented_copies(
    frame: np.ndarray, labels: np.ndarray, config: AugmentConfig, seed: int
) -> Copies:
    """The frame itself and ``copies`` warped versions; same sizes and dtypes.

    ``frame``: uint8 ``(H, W, 3)``; ``labels``: int32 ``(H, W)``.
    """
    return copies_of([(frame, labels)], config, seed)


def copies_of(originals: Sequence[Sample], config: AugmentConfig, seed: int) -> Copies:
    """The annotated frames and ``copies`` warped versions of them, shared out evenly in turn."""
    h, w = originals[0][1].shape
    return Copies(originals, _draw_warps(h, w, config, seed))


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


@dataclass(frozen=True, eq=False)  # compared by identity
class Shot:
    """An annotated frame.

    ``frame`` uint8 ``(H, W, 3)``; ``labels`` int32 ``(H, W)``; ``known``: the ids that a person has
    marked, whose pixels in ``labels`` are the truth; ``found``: those whose pixels are only what was
    predicted. Of any other object the shot says nothing, wherever that may be. ``index``: the frame's
    number in the session.
    """

    frame: np.ndarray
    labels: np.ndarray
    known: frozenset[int]
    found: frozenset[int] = frozenset()
    index: int = 0


class Samples:
    """What stages 1 and 2 learn from: the annotated frames, their objects and augmented copies.

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
        self._take((Shot(frame, labels, frozenset(ids)),), ids, config, seed, device)

    @classmethod
    def of_shots(
        cls,
        shots: Sequence[Shot],
        ids: tuple[int, ...],
        config: AugmentConfig,
        seed: int,
        device: torch.device,
    ) -> Samples:
        """Samples of several annotated frames of one size, the newest last."""
        made = cls.__new__(cls)
        made._take(tuple(shots), ids, config, seed, device)
        return made

    def _take(
        self,
        shots: tuple[Shot, ...],
        ids: tuple[int, ...],
        config: AugmentConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self.shots, self.ids, self.device = shots, ids, device
        self._drawn = (config, seed)
        self.copies = copies_of([(s.frame, s.labels) for s in shots], config, seed)
        self._made: dict[str, Any] = {}

    @property
    def complete(self) -> bool:
        """Whether every annotated frame tells the truth of every object."""
        return all(shot.known.issuperset(self.ids) for shot in self.shots)

    def known(self) -> torch.Tensor:
        """Bool ``(M, N)``: whether copy m tells the truth of object n."""
        table = [[i in shot.known for i in self.ids] for shot in self.shots]
        return torch.tensor([table[self.copies.original(m)] for m in range(len(self.copies))])

    def telling_of(self, object_id: int) -> Samples:
        """The samples of those annotated frames alone that tell the truth of an object."""
        shots = tuple(shot for shot in self.shots if object_id in shot.known)
        if len(shots) == len(self.shots):
            return self
        return Samples.of_shots(shots, self.ids, *self._drawn, self.device)

    def changed(self, change: Callable[[Shot], Shot]) -> Samples:
        """The samples of the same annotated frames seen otherwise, with the same draws."""
        return Samples.of_shots([change(s) for s in self.shots], self.ids, *self._drawn, self.device)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
