from __future__ import annotations

import cv2
import numpy as np
import pytest

from segspn.errors import InputError
from segspn.jobs.scale import Scale
from segspn.video import ObjectMasks, resize_labels

FULL = (96, 128)


def disk(centre, radius, size, soft=0.0):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    distance = np.hypot(y - centre[0], x - centre[1]) - radius
    if not soft:
        return (distance < 0).astype(np.float32)
    return (1 / (1 + np.exp(distance / soft))).astype(np.float32)


def test_no_scaling_changes_nothing():
    for scale in (Scale(FULL, None), Scale(FULL, 128), Scale(FULL, 500)):
        labels = np.arange(96 * 128, dtype=np.int32).reshape(FULL) % 3
        scores = np.zeros((2, *FULL), np.float32)
        assert scale.enlarge_labels(labels, scores, (1, 2)) is labels
        frame = np.zeros((*FULL, 3), np.uint8)
        assert scale.shrink_frame(frame) is frame


def test_contours_follow_the_scores_better_than_nearest_neighbour():
    scale = Scale(FULL, 32)
    assert scale.working == (24, 32)
    truth = disk((50, 60), 30, FULL)
    scores = disk((12.5, 15), 7.5, scale.working, soft=0.3)[None]
    labels = (scores[0] > 0.5) * np.int32(5)
    large = scale.enlarge_labels(labels, scores, (5,))
    nearest = resize_labels(labels, FULL)

    def wrong(found):
        return np.count_nonzero((found == 5) != (truth > 0))

    assert wrong(large) < 0.5 * wrong(nearest)


def test_labels_win_over_scores_that_say_otherwise():
    # As after a filter that took a region away, and gave another one without any score.
    scale = Scale(FULL, 32)
    labels = np.zeros(scale.working, np.int32)
    labels[4:12, 4:12], labels[4:12, 16:28] = 3, 9
    scores = np.zeros((2, *scale.working), np.float32)
    scores[0, 14:22, 4:28] = 1  # a region of object 3 that is not labelled
    scores[0, 4:12, 16:28] = 0.9  # object 3 is surer than 9 where 9 is the label
    large = scale.enlarge_labels(labels, scores, (3, 9))
    # Away from contours by one small pixel, labels are kept whatever the scores say.
    for object_id in (0, 3, 9):
        mask = (labels == object_id).astype(np.uint8)
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=1)
        core = resize_labels(inner.astype(np.int32), FULL) > 0
        assert core.any() and (large[core] == object_id).all()


def test_an_object_that_vanishes_is_named():
    labels = np.zeros(FULL, np.int32)
    labels[10:40, 10:40], labels[80, 100] = 1, 6
    with pytest.raises(InputError, match=r"m\.png: object 6 vanished .* 32x24"):
        Scale(FULL, 32).shrink_masks(ObjectMasks(labels, (1, 6)), "m.png")


def test_a_side_too_small_is_refused():
    with pytest.raises(InputError, match="--max-side 8"):
        Scale(FULL, 8)
