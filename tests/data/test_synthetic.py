"""Synthetic views: what is drawn or bent stays labelled exactly."""

from __future__ import annotations

import cv2
import numpy as np

from segspn.data import View, bend, draw_lines


def view(size: int = 128) -> View:
    """A white disc, object 1, on black."""
    labels = np.zeros((size, size), np.uint8)
    cv2.circle(labels, (64, 64), 30, 1, -1)
    return View(np.repeat(labels[..., None] * np.uint8(255), 3, 2), labels)


def test_bent_labels_follow_the_bent_image() -> None:
    moved = 0
    for seed in range(20):
        bent = bend(view(), np.random.default_rng(seed))
        white = bent.image[..., 0] > 127
        assert (white != (bent.labels > 0)).mean() < 0.01
        moved += not np.array_equal(bent.labels, view().labels)
    assert 5 <= moved <= 15  # every other one


def test_lines_belong_to_an_object_or_to_nobody() -> None:
    outside = inside = 0
    for seed in range(30):
        before = view()
        drawn = draw_lines(before, np.random.default_rng(seed), 3)
        assert set(np.unique(drawn.labels)) <= {0, 1}
        assert np.array_equal(before.labels, view().labels), "the input is not changed"
        outside += int(((drawn.labels == 1) & (before.labels == 0)).sum() > 10)
        inside += int(((drawn.labels == 0) & (before.labels == 1)).sum() > 10)
        still = (drawn.labels == before.labels) & (drawn.image == before.image).all(-1)
        assert still.mean() > 0.7
    assert outside > 10 and inside > 3


def test_same_generator_same_view() -> None:
    for make in (bend, lambda v, rng: draw_lines(v, rng, 4)):
        a, b = (make(view(), np.random.default_rng(5)) for _ in range(2))
        assert np.array_equal(a.image, b.image) and np.array_equal(a.labels, b.labels)
