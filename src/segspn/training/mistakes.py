"""Masks with the mistakes that other segmenters make, from exact ones: training input for the SPN.

Each mistake is one that people see in published results: contours that miss the edge by some pixels,
low-resolution or over-smoothed shapes, lost limbs and thin parts, holes, false islands, spill into
what lies beside the object and looks like it, pieces of other objects.
"""

from __future__ import annotations

import cv2
import numpy as np

from segspn.data.synthetic import smooth_noise


def mistaken_mask(
    mask: np.ndarray,
    image: np.ndarray,
    others: np.ndarray,
    rng: np.random.Generator,
    severe: bool = False,
) -> np.ndarray:
    """A wrong version of a mask, as a hard mask; now and then it is almost right.

    ``mask``: bool ``(H, W)``, the exact one; ``image``: uint8 RGB ``(H, W, 3)``; ``others``: bool
    ``(H, W)``, the scene's other objects; ``severe``: large parts may be lost, which only a memory can
    bring back. Returns bool ``(H, W)``.
    """
    side = np.sqrt(max(float(mask.sum()), 64.0))
    kind = rng.random()
    if kind < 0.2:  # a good mask, which is to be left alone
        return _displaced(mask, rng.uniform(0, 1.0), rng)
    x = mask
    if rng.random() < (0.6 if severe else 0.35):
        x = _lost(x, side, rng, severe)
    if rng.random() < 0.35:
        x = _spilled(x, image, side, rng)
    if rng.random() < 0.15 and others.any():
        x = x | (others & (_discs(others, side * rng.uniform(0.2, 0.8), 1, rng)))
    if rng.random() < 0.2:
        x = x | _island(x, side, rng)
    if rng.random() < 0.15:
        x = x & ~_discs(x, side * rng.uniform(0.04, 0.2), int(rng.integers(1, 4)), rng)
    if rng.random() < 0.35:
        x = _morphed(x, side, rng)
    x = _displaced(x, rng.uniform(0, 4) * min(1.0, side / 60), rng)
    x = _low_resolution(x, side, rng)
    union = np.count_nonzero(x | mask)
    if np.count_nonzero(x & mask) < (0.15 if severe else 0.4) * union:  # beyond repair
        return _displaced(mask, rng.uniform(1, 4) * min(1.0, side / 60), rng)
    return x


def _displaced(mask: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """Contours moved by a smooth random field of about ``pixels``, and a common shift."""
    h, w = mask.shape
    field = smooth_noise((h, w), np.exp(rng.uniform(np.log(3), np.log(40))), rng, 2) * pixels
    field += rng.normal(0, 0.3 * pixels, 2).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)
    grid += field.astype(np.float32)
    x, y = np.ascontiguousarray(grid[..., 0]), np.ascontiguousarray(grid[..., 1])
    moved: np.ndarray = cv2.remap(
        mask.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved > 0.5


def _low_resolution(mask: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """What is left of a shape that was predicted on a coarse grid, or smoothed like one."""
    h, w = mask.shape
    x: np.ndarray = mask.astype(np.float32)
    kind = rng.random()
    if kind < 0.35:
        step = int(rng.choice([2, 4, 8, 8, 16]))
        small = cv2.resize(x, (max(2, w // step), max(2, h // step)), interpolation=cv2.INTER_AREA)
        x = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
    elif kind < 0.6:
        x = cv2.GaussianBlur(x, (0, 0), max(0.5, side * rng.uniform(0.01, 0.09)))
    else:
        return mask
    threshold = rng.uniform(0.35, 0.65)
    return np.asarray(x > threshold)


def _morphed(mask: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """Opened (thin parts are lost), closed (gaps are filled), eroded or dilated."""
    how = [cv2.MORPH_OPEN, cv2.MORPH_CLOSE, cv2.MORPH_ERODE, cv2.MORPH_DILATE][rng.integers(4)]
    most = 0.07 if how in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE) else 0.025
    radius = max(1, int(side * rng.uniform(0.005, most)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return cv2.morphologyEx(mask.astype(np.uint8), how, kernel) > 0


def _lost(
    mask: np.ndarray, side: float, rng: np.random.Generator, severe: bool = False
) -> np.ndarray:
    """Without a part: what lies beyond a line, or in discs. A large one if ``severe``."""
    if rng.random() < 0.4:
        ys, xs = np.nonzero(mask)
        if not len(xs):
            return mask
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * np.arange(mask.shape[1])[None] + np.sin(angle) * np.arange(
            mask.shape[0]
        )[:, None]
        cut = np.quantile(along[ys[::7], xs[::7]], rng.uniform(0.3 if severe else 0.7, 0.97))
        return mask & (along < cut)
    radius = side * rng.uniform(0.1, 0.5 if severe else 0.3)
    return mask & ~_discs(mask, radius, int(rng.integers(1, 3)), rng)


def _spilled(
    mask: np.ndarray, image: np.ndarray, side: float, rng: np.random.Generator
) -> np.ndarray:
    """With what lies beside the object and looks alike, near one point of the contour; or without
    what looks alike inside."""
    inner = mask.astype(np.uint8)
    outwards = rng.random() < 0.6
    ring = cv2.dilate(inner, np.ones((5, 5), np.uint8)) - inner
    if not outwards:
        ring = inner - cv2.erode(inner, np.ones((5, 5), np.uint8))
    ys, xs = np.nonzero(ring)
    if not len(xs):
        return mask
    k = rng.integers(len(xs))
    x, y, radius = int(xs[k]), int(ys[k]), int(side * rng.uniform(0.15, 0.6)) + 2
    x0, y0 = max(0, x - radius), max(0, y - radius)
    window = np.ascontiguousarray(image[y0 : y + radius, x0 : x + radius])
    barred = mask if outwards else ~mask
    filled = np.zeros((window.shape[0] + 2, window.shape[1] + 2), np.uint8)
    filled[1:-1, 1:-1] = barred[y0 : y + radius, x0 : x + radius]
    tolerance = (float(rng.uniform(6, 30)),) * 3
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (2 << 8)
    cv2.floodFill(window, filled, (x - x0, y - y0), (0, 0, 0), tolerance, tolerance, flags)
    region = np.zeros_like(mask)
    region[y0 : y + radius, x0 : x + radius] = filled[1:-1, 1:-1] == 2
    return mask | region if outwards else mask & ~region


def _island(mask: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """One to three blobs somewhere, each smaller than the object."""
    return _discs(np.ones_like(mask), side * rng.uniform(0.05, 0.3), int(rng.integers(1, 4)), rng)


def _discs(
    where: np.ndarray, radius: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Ellipses around random points of ``where``. Bool ``(H, W)``."""
    out = np.zeros(where.shape, np.uint8)
    places = np.flatnonzero(where)
    for place in rng.choice(places, count) if len(places) else ():
        y, x = divmod(int(place), where.shape[1])
        axes = tuple(max(1, int(radius * rng.uniform(0.5, 1.5))) for _ in range(2))
        cv2.ellipse(out, (x, y), axes, rng.uniform(0, 180), 0, 360, 1, -1)  # type: ignore[call-overload]
    return out > 0
