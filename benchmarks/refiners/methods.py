"""The refiners: one entry each, with the settings that their authors or users publish.

No setting was chosen by looking at DAVIS. Where a method has several well-known settings, each is an
entry of its own, the most usual one first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

import segspn

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Image uint8 RGB ``(H, W, 3)``, scores float32 ``(H, W)`` in 0..1 -> mask, bool ``(H, W)``."""

CONTRIB, CRF, MATTING = "opencv-contrib-python-headless", "pydensecrf2", "pymatting"
MODULES = {CRF: "pydensecrf", MATTING: "pymatting"}


@dataclass(frozen=True)
class Refiner:
    """One refiner with one setting. ``family`` is shared by the settings of one method; ``package``
    is what pip must install for it."""

    name: str
    family: str
    settings: str
    refine: Refine
    package: str | None = None

    @property
    def missing(self) -> bool:
        """Whether ``package`` is not installed."""
        if self.package == CONTRIB:
            return not hasattr(cv2, "ximgproc")
        module = MODULES.get(self.package or "")
        return module is not None and importlib.util.find_spec(module) is None

    def __call__(self, image: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The refined mask. Raises ``TypeError`` when it is not a bool ``(H, W)``."""
        mask = self.refine(image, scores)
        if mask.dtype != bool or mask.shape != scores.shape:
            raise TypeError(f"{self.name} made {mask.dtype} {mask.shape}, not bool {scores.shape}")
        return mask


def _ximgproc() -> Any:
    return getattr(cv2, "ximgproc")  # noqa: B009 - only the contrib build has it


def nothing(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return scores > 0.5


def spn(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return segspn.refine(image, scores) > 0.5


def guided_filter(
    image: np.ndarray, scores: np.ndarray, radius: int, eps: float, grey: bool = False
) -> np.ndarray:
    """He, Sun, Tang: Guided image filtering. ``eps`` for an image in 0..1, as in the paper."""
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if grey else image
    # OpenCV's eps counts in squared grey levels. (On a float image in 0..1 its colour filter loses
    # all structure at an eps of 0.001 or less, without a word.)
    filtered: np.ndarray = _ximgproc().guidedFilter(guide, scores, radius, eps * 255**2)
    return filtered > 0.5


def fast_global_smoother(
    image: np.ndarray, scores: np.ndarray, strength: float, sigma: float
) -> np.ndarray:
    """Min et al.: Fast global image smoothing based on weighted least squares."""
    smooth: np.ndarray = _ximgproc().fastGlobalSmootherFilter(image, scores, strength, sigma)
    return smooth > 0.5


def dense_crf(
    image: np.ndarray,
    scores: np.ndarray,
    smoothness: tuple[float, float],
    appearance: tuple[float, float, float],
    steps: int,
    certainty: float = 0.7,
) -> np.ndarray:
    """Krähenbühl, Koltun: Efficient inference in fully connected CRFs.

    ``smoothness`` is (pixels, weight), ``appearance`` (pixels, grey levels, weight). ``certainty``
    is the probability given to a mask that is sure of itself: ``gt_prob`` in pydensecrf.
    """
    from pydensecrf.densecrf import DenseCRF2D

    height, width = scores.shape
    share = 1 - certainty + (2 * certainty - 1) * scores
    crf = DenseCRF2D(width, height, 2)
    unary = -np.log(np.stack([1 - share, share]).reshape(2, -1))
    crf.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    crf.addPairwiseGaussian(sxy=smoothness[0], compat=smoothness[1])
    pixels, levels, weight = appearance
    crf.addPairwiseBilateral(sxy=pixels, srgb=levels, rgbim=image, compat=weight)
    background, foreground = np.array(crf.inference(steps)).reshape(2, height, width)
    refined: np.ndarray = foreground > background
    return refined


def sure_regions(scores: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Surely object and surely not, bool ``(H, W)``: what is left outside a band of ``size`` pixels
    along the contour. Thresholds and the square structure are those of rembg."""
    square = np.ones((size, size), np.uint8)
    inside = cv2.erode((scores > 240 / 255).astype(np.uint8), square) > 0
    outside = cv2.erode((scores < 10 / 255).astype(np.uint8), square) > 0
    return inside, outside


def closed_form_matting(image: np.ndarray, scores: np.ndarray, band: int) -> np.ndarray:
    """Levin, Lischinski, Weiss: A closed-form solution to natural image matting."""
    from pymatting import estimate_alpha_cf

    inside, outside = sure_regions(scores, band)
    # A mask thinner than the band, or one that fills the image, leaves nothing to start from.
    if not inside.any() or not outside.any():
        return scores > 0.5
    trimap = np.where(inside, 1.0, np.where(outside, 0.0, 0.5))
    alpha: np.ndarray = estimate_alpha_cf(image / 255.0, trimap)
    return alpha > 0.5


def grab_cut(image: np.ndarray, scores: np.ndarray, band: int | None, steps: int = 5) -> np.ndarray:
    """Rother, Kolmogorov, Blake: GrabCut. Outside the ``band`` the mask is taken for sure; without
    one any pixel may change sides."""
    mask = scores > 0.5
    labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    if band is not None:
        inside, outside = sure_regions(scores, band)
        labels[inside], labels[outside] = cv2.GC_FGD, cv2.GC_BGD
    if mask.all() or not mask.any():  # its colour models need pixels of both
        return mask
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # the colour models start from random clusters
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    cv2.grabCut(bgr, labels, (0, 0, 0, 0), background, foreground, steps, cv2.GC_INIT_WITH_MASK)
    refined: np.ndarray = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return refined


NOTHING = Refiner("nothing", "nothing", "the mask as it is", nothing)

REFINERS: tuple[Refiner, ...] = (
    NOTHING,
    Refiner("segspn", "segspn", "segspn.refine, backbone features included", spn),
    Refiner(
        "guided, grey r8", "guided filter, grey",
        "r 8, eps 1e-4: a usual size for sharpening masks of this resolution",
        partial(guided_filter, radius=8, eps=1e-4, grey=True), CONTRIB,
    ),
    Refiner(
        "guided, colour r8", "guided filter, colour", "the same with the colours",
        partial(guided_filter, radius=8, eps=1e-4), CONTRIB,
    ),
    Refiner(
        "guided, colour r60", "guided filter, colour",
        "r 60, eps 1e-6: the paper's feathering of a binary mask",
        partial(guided_filter, radius=60, eps=1e-6), CONTRIB,
    ),
    Refiner(
        "smoother 500", "fast global smoother",
        "lambda 500, sigma 1.5: OpenCV's EdgeAwareInterpolator (defaults)",
        partial(fast_global_smoother, strength=500, sigma=1.5), CONTRIB,
    ),
    Refiner(
        "smoother 8000", "fast global smoother",
        "lambda 8000, sigma 1: OpenCV's DisparityWLSFilter (defaults)",
        partial(fast_global_smoother, strength=8000, sigma=1.0), CONTRIB,
    ),
    Refiner(
        "dense CRF", "dense CRF",
        "pydensecrf's example: Gaussian 3 px weight 3, bilateral 80 px 13 levels weight 10, 5 steps",
        partial(dense_crf, smoothness=(3, 3), appearance=(80, 13, 10), steps=5), CRF,
    ),
    Refiner(
        "dense CRF, saliency", "dense CRF",
        "saliency networks' (DSS): Gaussian 3 px weight 3, bilateral 60 px 5 levels weight 5, 1 step",
        partial(dense_crf, smoothness=(3, 3), appearance=(60, 5, 5), steps=1), CRF,
    ),
    Refiner(
        "closed form, band 10", "closed-form matting",
        "pymatting's defaults, trimap as rembg makes it (erode size 10: 5 px either side)",
        partial(closed_form_matting, band=10), MATTING,
    ),
    Refiner(
        "closed form, band 20", "closed-form matting", "the same, a band of twice the width",
        partial(closed_form_matting, band=20), MATTING,
    ),
    Refiner(
        "GrabCut, band 20", "GrabCut", "5 steps (OpenCV's tutorial), free 10 px either side",
        partial(grab_cut, band=20),
    ),
    Refiner(
        "GrabCut, free", "GrabCut", "5 steps, every pixel only probably what the mask says",
        partial(grab_cut, band=None),
    ),
)  # fmt: skip
