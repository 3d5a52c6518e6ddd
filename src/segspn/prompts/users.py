"""Simulated users: how people click, frame and scribble, for training and for measuring."""

from __future__ import annotations

import cv2
import numpy as np


def depth(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of a bool mask ``(H, W)`` to what is not in it or beyond the frame."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1])


def worst_click(found: np.ndarray, truth: np.ndarray) -> tuple[int, int, bool] | None:
    """A click (x, y, positive) into the centre of the largest wrong region; None if nothing is wrong.

    ``found`` and ``truth``: bool ``(H, W)``. The usual protocol of interactive segmentation: the larger
    of the regions that are missed and that are too much, and in it the pixel farthest from its border.
    """
    best: tuple[int, int, bool] | None = None
    most = 0
    for wrong, positive in ((truth & ~found, True), (found & ~truth, False)):
        count, regions, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
        if count < 2:
            continue
        k = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        if stats[k, cv2.CC_STAT_AREA] > most:
            most = stats[k, cv2.CC_STAT_AREA]
            y, x = np.unravel_index(int(depth(regions == k).argmax()), wrong.shape)
            best = (int(x), int(y), positive)
    return best


def stroke(mask: np.ndarray, rng: np.random.Generator, parts: int = 3) -> np.ndarray:
    """A stroke along the inside of a bool mask ``(H, W)``, as a person would draw it: bool ``(H, W)``.

    It runs through ``parts`` deep places of the largest region and stays inside.
    """
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros_like(mask)
    region = regions == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    inside = depth(region)
    ys, xs = np.nonzero(inside >= 0.6 * inside.max())
    if len(xs) < parts * 4:
        ys, xs = np.nonzero(region)
    # Spread over the object: places far from one another, in their order along the longer side.
    chosen = [int(rng.integers(len(xs)))]
    for _ in range(parts - 1):
        gaps = np.min([(xs - xs[k]) ** 2 + (ys - ys[k]) ** 2 for k in chosen], 0)
        chosen.append(int(np.argmax(gaps * rng.uniform(0.5, 1, len(gaps)))))
    order = sorted(chosen, key=lambda k: xs[k] if np.ptp(xs) > np.ptp(ys) else ys[k])
    path = np.array([(xs[k], ys[k]) for k in order], np.int32)
    drawn: np.ndarray = np.zeros(mask.shape, np.uint8)
    cv2.polylines(drawn, [path[:, None]], False, 1, max(1, round(0.006 * max(mask.shape))))
    return (drawn > 0) & region


def framed(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box (x0, y0, x1, y1) of a bool mask ``(H, W)`` that is not empty; x1 and y1 exclusive."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height
