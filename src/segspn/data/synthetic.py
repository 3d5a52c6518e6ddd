"""Short synthetic clips from stills: objects move over a background, with exact masks.

A scene is one still, or the objects of one still pasted over another. Each layer (background, each
pasted object) moves by its own affine; the views of a scene share the same content, so matching,
fine-tuning and propagation can be learned without any video.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segspn.data.stills import Stills


@dataclass(frozen=True)
class Motion:
    """How far a view may be from the scene's first view."""

    rotation: float = 15.0  # degrees
    scale: float = 1.25  # factor, up or down
    shift: float = 0.15  # share of the crop
    flip: float = 0.1  # probability


@dataclass
class View:
    """``image``: RGB ``uint8 (S, S, 3)``; ``labels``: ``uint8 (S, S)``, ids 1..K of the scene."""

    image: np.ndarray
    labels: np.ndarray


@dataclass
class _Layer:
    image: np.ndarray
    labels: np.ndarray
    alpha: np.ndarray | None  # None: the background, which covers everything
    base: np.ndarray  # 2x3, layer pixels -> crop pixels in the first view


def _affine(center: tuple[float, float], angle: float, scale: float, flip: bool) -> np.ndarray:
    """Rotation by degrees, scale and mirror about a centre, as 3x3."""
    a = np.deg2rad(angle)
    m = np.eye(3)
    m[:2, :2] = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    if flip:
        m[:2, :2] = m[:2, :2] @ np.diag([-1.0, 1.0])
    c = np.asarray(center)
    m[:2, 2] = c - m[:2, :2] @ c
    return m


def _shift(x: float, y: float) -> np.ndarray:
    m = np.eye(3)
    m[:2, 2] = (x, y)
    return m


def jitter_colour(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Brightness, contrast, gamma and per-channel gain, each by about ``strength``."""
    table = np.arange(256, dtype=np.float32) / 255.0
    table = table ** np.exp(rng.normal(0, strength))
    table = (table - 0.5) * np.exp(rng.normal(0, strength)) + 0.5 + rng.normal(0, strength / 2)
    gains = np.exp(rng.normal(0, strength / 2, 3))
    lut = np.clip(table[:, None] * gains * 255.0, 0, 255).astype(np.uint8)
    return cv2.LUT(image, lut.reshape(1, 256, 3))


def _relabel(mask: np.ndarray, rng: np.random.Generator, most: int, minimum: float) -> np.ndarray:
    """Keep up to ``most`` objects of at least ``minimum`` of the image, renumbered 1..K."""
    areas = np.bincount(mask.ravel(), minlength=256)
    ids = [i for i in np.flatnonzero(areas) if i > 0 and areas[i] >= minimum * mask.size]
    rng.shuffle(ids)
    lut = np.zeros(256, np.uint8)
    for k, i in enumerate(ids[:most]):
        lut[i] = k + 1
    return lut[mask]


class Scene:
    """Draw a scene, then ``view()`` it as often as wanted.

    ``size`` is the side of the square crop; ``paste`` the probability that the objects are cut out
    and moved over another still, whose own objects then are distractors (background).
    """

    def __init__(
        self,
        stills: Stills,
        rng: np.random.Generator,
        size: int = 256,
        paste: float = 0.5,
        motion: Motion = Motion(),
        most_objects: int = 3,
    ) -> None:
        self.size, self.motion = size, motion
        for _ in range(20):
            image, mask = stills.draw(rng).load()
            labels = _relabel(mask, rng, most_objects, 0.01)
            if labels.any():
                break
        if rng.random() < paste:
            back, _ = stills.draw(rng).load()
            self.layers = [self._place(back, np.zeros(back.shape[:2], np.uint8), None, rng)]
            soft = cv2.GaussianBlur((labels > 0).astype(np.float32), (3, 3), 0.8)
            self.layers.append(self._place(image, labels, soft, rng))
        else:
            self.layers = [self._place(image, labels, None, rng)]

    def _place(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        alpha: np.ndarray | None,
        rng: np.random.Generator,
    ) -> _Layer:
        h, w = labels.shape
        zoom = self.size / min(h, w) * np.exp(rng.uniform(np.log(0.9), np.log(1.7)))
        if alpha is not None:
            zoom = self.size / min(h, w) * np.exp(rng.uniform(np.log(0.5), np.log(1.3)))
        ys, xs = np.nonzero(labels)
        if len(xs):
            focus = (float(np.median(xs)), float(np.median(ys)))
        else:
            focus = (w * rng.uniform(0.3, 0.7), h * rng.uniform(0.3, 0.7))
        target = self.size * rng.uniform(0.3, 0.7, 2)
        base = _shift(*target) @ _affine((0, 0), rng.normal(0, 5), zoom, rng.random() < 0.5)
        return _Layer(image, labels, alpha, base @ _shift(-focus[0], -focus[1]))

    def view(self, rng: np.random.Generator, amount: float = 1.0, colour: float = 0.08) -> View:
        """One view; ``amount`` scales the motion (0: the first view), ``colour`` the jitter."""
        size = self.size
        camera = self._move(rng, amount * (0.5 if len(self.layers) > 1 else 1.0), (size / 2,) * 2)
        image: np.ndarray = np.zeros((size, size, 3), np.uint8)
        out: np.ndarray = np.zeros((size, size), np.uint8)
        for layer in self.layers:
            centre = (layer.base @ np.array([*_centre(layer.labels), 1.0]))[:2]
            own = self._move(rng, amount, tuple(centre)) if layer.alpha is not None else np.eye(3)
            matrix = (camera @ own @ layer.base)[:2]
            shrink = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
            flags = cv2.INTER_AREA if shrink < 0.6 else cv2.INTER_LINEAR
            border = cv2.BORDER_REFLECT_101 if layer.alpha is None else cv2.BORDER_CONSTANT
            warped = cv2.warpAffine(layer.image, matrix, (size, size), flags=flags, borderMode=border)
            labels = cv2.warpAffine(
                layer.labels, matrix, (size, size), flags=cv2.INTER_NEAREST, borderMode=border
            )
            if layer.alpha is None:
                image, out = warped, labels
                continue
            alpha = cv2.warpAffine(layer.alpha, matrix, (size, size))[..., None]
            warped = jitter_colour(warped, rng, colour / 2)
            image = (image * (1 - alpha) + warped * alpha).astype(np.uint8)
            out = np.where(labels > 0, labels, out)
        image = jitter_colour(image, rng, colour)
        if rng.random() < 0.2 * amount:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
        return View(np.ascontiguousarray(image), out)

    def _move(
        self, rng: np.random.Generator, amount: float, centre: tuple[float, ...]
    ) -> np.ndarray:
        m = self.motion
        if amount == 0:
            return np.eye(3)
        flip = rng.random() < m.flip * amount
        scale = m.scale ** (amount * rng.uniform(-1, 1))
        turn = _affine((centre[0], centre[1]), amount * m.rotation * rng.uniform(-1, 1), scale, flip)
        dx, dy = amount * m.shift * self.size * rng.uniform(-1, 1, 2)
        return _shift(dx, dy) @ turn


def _centre(labels: np.ndarray) -> tuple[float, float]:
    ys, xs = np.nonzero(labels)
    if not len(xs):
        return labels.shape[1] / 2, labels.shape[0] / 2
    return float(xs.mean()), float(ys.mean())
