from __future__ import annotations

import cv2
import numpy as np

from segspn.training.mistakes import mistaken_mask


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two flat-coloured discs on a gradient: the mask, the image, the other object."""
    mask, other = np.zeros((2, 160, 160), np.uint8)
    cv2.circle(mask, (60, 80), 35, 1, -1)
    cv2.circle(other, (125, 80), 20, 1, -1)
    image = np.repeat(np.linspace(30, 60, 160)[None, :, None], 160, 0).repeat(3, 2)
    image[mask > 0] = (200, 100, 50)
    image[other > 0] = (50, 100, 200)
    return mask > 0, image.astype(np.uint8), other > 0


def draws(count: int) -> list[np.ndarray]:
    mask, image, other = scene()
    return [mistaken_mask(mask, image, other, np.random.default_rng(i)) for i in range(count)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_mistakes_are_repairable_varied_and_sometimes_none() -> None:
    mask = scene()[0]
    found = np.array([iou(x, mask) for x in draws(200)])
    assert found.min() > 0.35
    assert 0.15 < (found > 0.95).mean() < 0.6
    assert (found < 0.8).mean() > 0.15


def test_each_kind_of_mistake_occurs() -> None:
    mask, _, other = scene()
    far = cv2.dilate(mask.astype(np.uint8), np.ones((31, 31), np.uint8)) == 0
    deep = cv2.erode(mask.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0
    drawn = draws(300)
    assert sum((x & far & ~other).sum() > 20 for x in drawn) > 10  # false islands
    assert sum((x & other).mean() > 0.2 * other.mean() for x in drawn) > 5  # another object's piece
    assert sum((~x & deep).any() for x in drawn) > 10  # holes
    assert sum(iou(x, mask) < 0.9 and not (x & ~mask).sum() > 50 for x in drawn) > 10  # lost parts


def test_same_generator_same_mask() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(draws(20), draws(20), strict=True))


def test_an_object_of_a_few_pixels_survives() -> None:
    mask = np.zeros((64, 64), bool)
    mask[30:32, 30:33] = True
    image = np.zeros((64, 64, 3), np.uint8)
    for seed in range(50):
        x = mistaken_mask(mask, image, np.zeros_like(mask), np.random.default_rng(seed))
        assert x.shape == mask.shape and x.dtype == bool
