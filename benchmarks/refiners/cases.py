"""What is refined: published masks, and true masks degraded in known ways."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segspn.errors import InputError
from segspn.evaluation import DavisSequence, DavisSubset
from segspn.evaluation.protocol import scored_frames
from segspn.video import open_source, read_labels

Degrade = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""A true mask, float32 ``(H, W)`` of 0 and 1 -> scores, float32 ``(H, W)`` in 0..1."""


@dataclass(frozen=True)
class Place:
    """A frame that is taken."""

    sequence: DavisSequence
    stem: str


@dataclass(frozen=True)
class Case:
    """A frame with the scores to refine: image uint8 RGB ``(H, W, 3)``, truth bool ``(H, W)``, and
    by kind of input float32 ``(H, W)`` in 0..1."""

    image: np.ndarray
    truth: np.ndarray
    inputs: Mapping[str, np.ndarray]


def places(data: DavisSubset, every: int = 1, limit: int | None = None) -> tuple[Place, ...]:
    """Every ``every``-th scored frame of each sequence, at most ``limit`` of each."""
    return tuple(
        Place(sequence, stem)
        for sequence in data.sequences
        for stem in _spread(scored_frames(sequence.frames), every)[:limit]
    )


def _spread(stems: Sequence[str], every: int) -> Sequence[str]:
    # From the middle of the first stretch: right after the given frame masks are at their best.
    return stems[min(every - 1, max(0, len(stems) - 1)) // 2 :: every]


def check_masks(taken: Sequence[Place], masks: Mapping[str, Path]) -> None:
    """Raises ``InputError`` for a mask that is not there, before any time is spent."""
    for folder in masks.values():
        for place in taken:
            path = folder / place.sequence.name / f"{place.stem}.png"
            if not path.is_file():
                raise InputError(f"{path}: no such mask; give --masks NAME=FOLDER with all sequences")


def read_case(place: Place, masks: Mapping[str, Path], degraded: bool, seed: int) -> Case:
    """Read one frame. Raises ``InputError`` for a mask of another size than its truth."""
    sequence = place.sequence
    source = open_source(sequence.images)
    index = source.names.index(place.stem)
    image = next(iter(source.read(index, index + 1, 1)))
    truth = read_labels(sequence.annotation(place.stem)) != 0
    inputs = {}
    for name, folder in masks.items():
        path = folder / sequence.name / f"{place.stem}.png"
        mask = read_labels(path) != 0
        if mask.shape != truth.shape:
            raise InputError(f"{path}: {mask.shape} differs from its truth's {truth.shape}")
        inputs[name] = mask.astype(np.float32)
    if degraded:
        for name, degrade in DEGRADED.items():
            # A frame's damage depends on nothing but its name, the kind and the seed.
            key = zlib.crc32(f"{sequence.name}/{place.stem}/{name}".encode())
            rng = np.random.default_rng([seed, key])
            inputs[name] = degrade(truth.astype(np.float32), rng)
    return Case(image, truth, inputs)


def coarse(mask: np.ndarray, factor: int) -> np.ndarray:
    """Down by area, up by bicubic interpolation: a net's output at this stride, soft."""
    height, width = mask.shape
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    return np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def swollen(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """7 pixels too fat, and blurred."""
    return np.clip(cv2.GaussianBlur(cv2.dilate(mask, _disk(7)), (0, 0), 4), 0, 1)


def eroded(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """5 pixels too thin."""
    thin: np.ndarray = cv2.erode(mask, _disk(5))
    return thin


def spotted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Four false islands in the background and four false holes in the object, radii 4 to 16."""
    out = mask.copy()
    for value in (1.0, 0.0):
        ys, xs = np.nonzero(mask != value)
        for _ in range(4 if len(ys) else 0):
            k = int(rng.integers(len(ys)))
            cv2.circle(out, (int(xs[k]), int(ys[k])), int(rng.integers(4, 17)), value, -1)
    return out


def _disk(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


DEGRADED: Mapping[str, Degrade] = {
    "8x coarser": lambda mask, rng: coarse(mask, 8),
    "16x coarser": lambda mask, rng: coarse(mask, 16),
    "swollen, blurred": swollen,
    "eroded": eroded,
    "islands, holes": spotted,
}
