"""Layers of a synthetic clip: a background and cut-out objects that move, bend and are laid over it.

A layer is kept at about the scale at which it is shown, so that a frame costs one `cv2.remap` of the
part of the crop that the layer covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segspn.data.synthetic import affine, translation

STEP = 16  # pixels between the nodes at which a warp is computed; linear between them


class ThinPlate:
    """Smooth bending of a plane of ``size`` (w, h): a thin-plate spline through ``side`` x ``side``
    control points on it (Bookstein, "Principal Warps", 1989)."""

    def __init__(self, size: tuple[float, float], side: int) -> None:
        w, h = size
        self.unit = max(w, h, 1.0)
        ys, xs = np.meshgrid(np.linspace(0, h, side), np.linspace(0, w, side), indexing="ij")
        self.points = np.stack((xs.ravel(), ys.ravel()), 1) / self.unit
        n = len(self.points)
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = self._kernel(self.points)
        system[:n, n] = system[n, :n] = 1
        system[:n, n + 1 :] = self.points
        system[n + 1 :, :n] = self.points.T
        self.solve = np.linalg.inv(system)[:, :n]

    def _kernel(self, at: np.ndarray) -> np.ndarray:
        square = ((at[:, None] - self.points) ** 2).sum(2)
        kernel: np.ndarray = square * np.log(np.maximum(square, 1e-12))
        return kernel

    def shift(self, at: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Displacements ``(M, 2)`` at points ``(M, 2)``; ``control`` ``(side**2, 2)`` are those of the
        control points. All in pixels of the plane."""
        at = np.clip(at / self.unit, -0.5, 1.5)  # beyond, a spline grows without bound
        basis = np.concatenate((self._kernel(at), np.ones((len(at), 1)), at), 1)
        moved: np.ndarray = basis @ (self.solve @ control)
        return moved


@dataclass
class Layer:
    """What moves as one.

    ``image`` uint8 ``(h, w, 3)``. ``labels`` uint8 ``(h, w)``: ids, of a background, whose ``alpha`` is
    None and which covers everything; or float ``alpha`` ``(h, w)`` in 0..1 of a cut-out with the one
    ``label`` (0: nobody's). ``matrices`` float ``(T, 3, 3)``: layer pixels -> crop pixels; ``control``
    float ``(T, P, 2)``: displacements of the control points of ``plate``, in layer pixels.
    """

    image: np.ndarray
    labels: np.ndarray | None
    alpha: np.ndarray | None
    label: int
    matrices: np.ndarray
    plate: ThinPlate
    control: np.ndarray
    shutter: float = 0.0  # share of a frame's time in which the film is exposed: motion blur

    def centre(self, t: int) -> np.ndarray:
        """Where the layer's middle is in the crop, float (2,)."""
        h, w = self.image.shape[:2]
        at: np.ndarray = (self.matrices[t] @ (w / 2, h / 2, 1.0))[:2]
        return at

    def _window(self, t: int, size: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the part of the crop that the layer can cover; empty where x1 <= x0."""
        if self.alpha is None:
            return 0, 0, size, size
        h, w = self.alpha.shape
        corners = self.matrices[t] @ np.array([[0, w, 0, w], [0, 0, h, h], [1, 1, 1, 1]])
        stretch = np.sqrt(abs(np.linalg.det(self.matrices[t][:2, :2])))
        margin = stretch * np.abs(self.control[t]).max(initial=0.0) + self._streak(t).length + 1
        low, high = corners[:2].min(1) - margin, corners[:2].max(1) + margin
        x0, y0 = np.clip(np.floor(low), 0, size).astype(int)
        x1, y1 = np.clip(np.ceil(high), 0, size).astype(int)
        return int(x0), int(y0), int(x1), int(y1)

    def _maps(self, t: int, x0: int, y0: int, w: int, h: int) -> tuple[np.ndarray, np.ndarray]:
        """For `cv2.remap`: the layer's pixel under each pixel of the window."""
        nx, ny = -(-w // STEP) + 1, -(-h // STEP) + 1
        gx, gy = np.meshgrid(x0 + STEP * np.arange(nx), y0 + STEP * np.arange(ny))
        crop = np.stack((gx.ravel(), gy.ravel(), np.ones(gx.size)))
        at = (np.linalg.inv(self.matrices[t]) @ crop)[:2].T
        at = at + self.plate.shift(at, self.control[t])
        nodes = at.reshape(ny, nx, 2).astype(np.float32)
        grow = np.array([[STEP, 0, 0], [0, STEP, 0]], np.float32)
        dense = cv2.warpAffine(nodes, grow, (w, h), flags=cv2.INTER_LINEAR)
        x, y = cv2.split(dense)
        return x, y

    def _streak(self, t: int) -> Streak:
        last = min(t + 1, len(self.matrices) - 1)
        step = self.centre(last) - self.centre(max(last - 1, 0))
        return Streak(*(self.shutter * step))

    def background(self, t: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop of a background at time ``t``: uint8 ``(S, S, 3)`` and ids uint8 ``(S, S)``."""
        maps = self._maps(t, 0, 0, size, size)
        border = cv2.BORDER_REFLECT_101
        image = cv2.remap(self.image, *maps, cv2.INTER_LINEAR, borderMode=border)
        if self.labels is None:
            return image, np.zeros((size, size), np.uint8)
        return image, cv2.remap(self.labels, *maps, cv2.INTER_NEAREST, borderMode=border)

    def lay(self, t: int, image: np.ndarray, labels: np.ndarray) -> None:
        """Lay a cut-out over a crop at time ``t``, in place: uint8 ``(S, S, 3)``, ids ``(S, S)``."""
        x0, y0, x1, y1 = self._window(t, len(labels))
        if x1 <= x0 or y1 <= y0:
            return
        assert self.alpha is not None
        maps = self._maps(t, x0, y0, x1 - x0, y1 - y0)
        alpha = cv2.remap(self.alpha, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        own = cv2.remap(self.image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        streak = self._streak(t)
        weighted = own * alpha[..., None]
        if streak.length >= 2:
            weighted, alpha = streak.blur(weighted), streak.blur(alpha)
        under = image[y0:y1, x0:x1]
        under[:] = np.rint(under * (1 - alpha[..., None]) + weighted).astype(np.uint8)
        labels[y0:y1, x0:x1][alpha >= 0.5] = self.label


@dataclass(frozen=True)
class Streak:
    """Motion blur along ``(dx, dy)`` pixels."""

    dx: float
    dy: float

    @property
    def length(self) -> float:
        return min(float(np.hypot(self.dx, self.dy)), 24.0)

    def blur(self, x: np.ndarray) -> np.ndarray:
        """Float ``(h, w)`` or ``(h, w, C)``, averaged along the streak."""
        half = int(np.ceil(self.length / 2))
        line: np.ndarray = np.zeros((2 * half + 1,) * 2, np.float32)
        end = np.array([self.dx, self.dy]) / np.hypot(self.dx, self.dy) * self.length / 2
        a, b = (tuple(int(v) for v in np.rint(16 * (half + s * end))) for s in (-1, 1))
        cv2.line(line, a, b, 1.0, 1, cv2.LINE_AA, 4)
        return cv2.filter2D(x, -1, line / line.sum(), borderType=cv2.BORDER_CONSTANT)


def sway(rng: np.random.Generator, frames: int, reach: float, speed: float) -> np.ndarray:
    """A smooth curve float ``(T,)`` from 0 that stays within ``2 * reach`` and moves by up to
    ``speed`` a frame."""
    if reach <= 0:
        return np.zeros(frames)
    phase = rng.uniform(0, 2 * np.pi)
    pace = min(speed / reach, 0.8)
    curve: np.ndarray = reach * (np.sin(phase + pace * np.arange(frames)) - np.sin(phase))
    return curve


def poses(
    centre: tuple[float, float], shift: np.ndarray, turn: np.ndarray, zoom: np.ndarray
) -> np.ndarray:
    """Matrices ``(T, 3, 3)``: turn (degrees) and zoom (logarithm) about ``centre``, then ``shift``, each
    ``(T, ...)``."""
    return np.stack(
        [
            translation(*move) @ affine(centre, angle, float(np.exp(log)), False)
            for move, angle, log in zip(shift, turn, zoom, strict=True)
        ]
    )
