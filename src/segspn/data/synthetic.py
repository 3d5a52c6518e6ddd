"""Short synthetic clips from stills: objects move over a background, with exact masks.

A scene is one still, or the objects of one still pasted over another. Each layer (background, each
pasted object) moves by its own affine; the views of a scene share the same content, so matching,
fine-tuning and propagation can be learned without any video.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segspn.data.stills import Stills, id_areas


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


def affine(center: tuple[float, float], angle: float, scale: float, flip: bool) -> np.ndarray:
    """Rotation by degrees, scale and mirror about a centre, as 3x3."""
    a = np.deg2rad(angle)
    m = np.eye(3)
    m[:2, :2] = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    if flip:
        m[:2, :2] = m[:2, :2] @ np.diag([-1.0, 1.0])
    c = np.asarray(center)
    m[:2, 2] = c - m[:2, :2] @ c
    return m


def translation(x: float, y: float) -> np.ndarray:
    """A shift by pixels, as 3x3."""
    m = np.eye(3)
    m[:2, 2] = (x, y)
    return m


def jitter_colour(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Brightness, contrast, gamma and per-channel gain, each by about ``strength``."""
    return recolour(image, rng.normal(0, 1, 6), strength)


def recolour(image: np.ndarray, change: np.ndarray, strength: float) -> np.ndarray:
    """Change the colours of RGB uint8 ``(H, W, 3)``: ``change`` float (6,), of unit variance, are gamma,
    contrast, brightness and three channel gains; ``strength`` scales them all."""
    table = np.arange(256, dtype=np.float32) / 255.0
    table = table ** np.exp(strength * change[0])
    table = (table - 0.5) * np.exp(strength * change[1]) + 0.5 + strength / 2 * change[2]
    gains = np.exp(strength / 2 * change[3:])
    lut = np.clip(table[:, None] * gains * 255.0, 0, 255).astype(np.uint8)
    return cv2.LUT(image, lut.reshape(1, 256, 3))


def _relabel(mask: np.ndarray, rng: np.random.Generator, most: int, minimum: float) -> np.ndarray:
    """Keep up to ``most`` objects of at least ``minimum`` of the image, renumbered 1..K."""
    areas = id_areas(mask)
    ids = [i for i in np.flatnonzero(areas) if i > 0 and areas[i] >= minimum * mask.size]
    rng.shuffle(ids)
    lut = np.zeros(256, np.uint8)
    for k, i in enumerate(ids[:most]):
        lut[i] = k + 1
    return lut[mask]


def smooth_noise(
    size: tuple[int, int], sigma: float, rng: np.random.Generator, channels: int
) -> np.ndarray:
    """Gaussian noise smoothed to ``sigma`` pixels, unit variance, float32 ``(H, W, channels)``."""
    h, w = size
    step = max(1, int(sigma / 2))
    small: np.ndarray = rng.normal(0, 1, (h // step + 3, w // step + 3, channels)).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), 2.0).reshape(*small.shape[:2], channels)
    small = small / (small.std() + 1e-6)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC).reshape(h, w, channels)


class Scene:
    """Draw a scene, then ``view()`` it as often as wanted.

    ``size`` is the side of the square crop; ``paste`` the probability that the objects are cut out
    and moved over another still, whose own objects then are distractors (background). ``trim``: cut
    out without the outermost pixel, so that the contour of what is pasted is exact. ``exact`` tells
    whether the labels' contours are: pasted, or drawn with care.
    """

    def __init__(
        self,
        stills: Stills,
        rng: np.random.Generator,
        size: int = 256,
        paste: float = 0.5,
        motion: Motion = Motion(),
        most_objects: int = 3,
        trim: bool = False,
    ) -> None:
        self.size, self.motion = size, motion
        for _ in range(20):
            still = stills.draw(rng)
            image, mask = stills.load(still)
            labels = _relabel(mask, rng, most_objects, 0.01)
            if labels.any():
                break
        if rng.random() < paste:
            back, _ = stills.load(stills.draw(rng))
            self.layers = [self._place(back, np.zeros(back.shape[:2], np.uint8), None, rng)]
            if trim and not still.sharp:
                labels = cv2.erode(labels, np.ones((3, 3), np.uint8))
            soft = cv2.GaussianBlur((labels > 0).astype(np.float32), (3, 3), 0.8)
            self.layers.append(self._place(image, labels, soft, rng))
        else:
            self.layers = [self._place(image, labels, None, rng)]
        self.exact = len(self.layers) > 1 or still.sharp

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
        base = translation(*target) @ affine((0, 0), rng.normal(0, 5), zoom, rng.random() < 0.5)
        return _Layer(image, labels, alpha, base @ translation(-focus[0], -focus[1]))

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
        turn = affine((centre[0], centre[1]), amount * m.rotation * rng.uniform(-1, 1), scale, flip)
        dx, dy = amount * m.shift * self.size * rng.uniform(-1, 1, 2)
        return translation(dx, dy) @ turn


def _centre(labels: np.ndarray) -> tuple[float, float]:
    ys, xs = np.nonzero(labels)
    if not len(xs):
        return labels.shape[1] / 2, labels.shape[0] / 2
    return float(xs.mean()), float(ys.mean())


def bend(view: View, rng: np.random.Generator, most: float = 8.0) -> View:
    """Every other view bent by a smooth random field of up to ``most`` pixels: bodies are not rigid."""
    if rng.random() < 0.5:
        return view
    size = view.labels.shape[0]
    field = smooth_noise((size, size), rng.uniform(15, 40), rng, 2) * rng.uniform(0, most) / 2
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(np.float32)
    at = np.ascontiguousarray(grid + field)
    x, y = np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1])
    border = cv2.BORDER_REFLECT_101
    return View(
        cv2.remap(view.image, x, y, cv2.INTER_LINEAR, borderMode=border),
        cv2.remap(view.labels, x, y, cv2.INTER_NEAREST, borderMode=border),
    )


def draw_lines(view: View, rng: np.random.Generator, count: int) -> View:
    """A view with thin curves: some belong to the object they start from, as poles, ropes and strings
    do, others are clutter that may cross objects. Thin parts are what photographs of animals and people
    lack."""
    image, labels = view.image.copy(), view.labels.copy()
    size = labels.shape[0]
    for _ in range(count):
        owner = 0 if rng.random() < 0.35 else int(rng.integers(1, max(2, labels.max() + 1)))
        ys, xs = np.nonzero(labels == owner)
        if not len(xs):
            continue
        k = rng.integers(len(xs))
        start = np.array([xs[k], ys[k]], np.float64)
        angle, length = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.1, 0.7)
        along = length * np.array([np.cos(angle), np.sin(angle)])
        bend = along[::-1] * (1, -1) * rng.normal(0, 0.15)
        t = np.linspace(0, 1, 24)[:, None]
        points = start + t * along + 4 * t * (1 - t) * bend
        colour = image[ys[k], xs[k]] if rng.random() < 0.3 else np.full(3, rng.integers(256))
        colour = np.clip(colour + rng.normal(0, 25, 3), 0, 255)
        width = int(rng.choice([1, 1, 2, 2, 3, 4, 6]))
        path = [np.rint(points * 16).astype(np.int32)[:, None]]
        cv2.polylines(image, path, False, tuple(map(float, colour)), width, cv2.LINE_AA, 4)
        drawn = np.zeros_like(labels)
        cv2.polylines(drawn, path, False, 1, width, cv2.LINE_8, 4)
        labels[drawn > 0] = owner
    return View(image, labels)
