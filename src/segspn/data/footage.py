"""Clips cut out of annotated videos, in the form of the synthetic ones."""

from __future__ import annotations

import cv2
import numpy as np

from segspn.data.stills import Stills, Video, id_areas
from segspn.data.synthetic import recolour

STRIDES = 4  # frames are taken one after another, or every second to fourth


def cut_footage(
    stills: Stills,
    video: Video,
    rng: np.random.Generator,
    frames: int,
    size: int,
    objects: int,
    light: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    """RGB uint8 ``(T, S, S, 3)`` and ids uint8 ``(T, S, S)`` of a square window around some objects.

    Up to ``objects`` of the first frame's are labelled 1..K, others are background; the clip may run
    backwards. None where the video is too short or shows no object where the clip starts.
    """
    if len(video) < frames:
        return None
    longest = (len(video) - 1) // max(1, frames - 1)
    stride = int(rng.integers(1, min(STRIDES, longest) + 1))
    span = stride * (frames - 1) + 1
    start = int(rng.integers(0, len(video) - span + 1))
    taken = video[start : start + span : stride]
    if rng.random() < 0.5:
        taken = taken[::-1]
    first = stills.load(taken[0])[1]
    ids = rng.permutation(np.flatnonzero(id_areas(first)[1:]) + 1)
    ids = ids[: int(rng.integers(1, objects + 1))]
    if not len(ids):
        return None
    lut = np.zeros(256, np.uint8)
    lut[ids] = np.arange(1, len(ids) + 1)
    h, w = first.shape
    side = int(min(h, w) / np.exp(rng.uniform(np.log(1.05), np.log(1.8))))
    ys, xs = np.nonzero(lut[first])
    middle = np.array([np.median(ys), np.median(xs)])
    y, x = np.clip(middle - side * rng.uniform(0.3, 0.7, 2), 0, np.array([h, w]) - side).astype(int)
    flip, change = rng.random() < 0.5, rng.normal(0, 1, 6)
    way = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    images = np.empty((frames, size, size, 3), np.uint8)
    labels = np.empty((frames, size, size), np.uint8)
    for t, still in enumerate(taken):
        image, mask = (part[y : y + side, x : x + side] for part in stills.load(still))
        image = cv2.resize(image, (size, size), interpolation=way)
        mask = cv2.resize(lut[mask], (size, size), interpolation=cv2.INTER_NEAREST)
        if flip:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
        images[t], labels[t] = recolour(image, change, light), mask
    return images, labels
