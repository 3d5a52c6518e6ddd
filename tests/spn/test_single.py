from __future__ import annotations

import cv2
import numpy as np
import pytest

import segspn


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A textured bright disc on a dark ground, and its exact mask."""
    rng = np.random.default_rng(0)
    mask = np.zeros((128, 160), np.uint8)
    cv2.circle(mask, (80, 64), 40, 1, -1)
    image = np.where(mask[..., None] > 0, (200, 120, 60), (40, 70, 90)).astype(np.float32)
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask > 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_blurred_mask_is_pulled_to_the_edge() -> None:
    image, mask = scene()
    small = cv2.resize(mask.astype(np.float32), (10, 8), interpolation=cv2.INTER_AREA)
    coarse = np.clip(cv2.resize(small, (160, 128), interpolation=cv2.INTER_LINEAR), 0, 1)
    refined = segspn.refine(image, coarse)
    assert refined.shape == mask.shape and refined.dtype == np.float32
    assert iou(refined > 0.5, mask) > iou(coarse > 0.5, mask)


def test_an_exact_mask_is_left_alone_and_shapes_are_kept() -> None:
    image, mask = scene()
    refined = segspn.refine(image, np.stack([mask, ~mask]))
    assert refined.shape == (2, 128, 160)
    assert iou(refined[0] > 0.5, mask) > 0.97
    assert 0 <= refined.min() and refined.max() <= 1


@pytest.mark.parametrize(
    ("image", "masks", "complaint"),
    [
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8)), "image must be uint8"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((4, 8)), "must be"),
        (np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255.0), "0..1"),
        (np.zeros((8, 8, 3), np.uint8), np.full((8, 8), np.nan), "0..1"),
    ],
)
def test_wrong_input_is_refused(image: np.ndarray, masks: np.ndarray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        segspn.refine(image, masks)
