from __future__ import annotations

import cv2
import numpy as np
import torch

from segspn.foreground import AugmentConfig, Samples, augmented_copies

CONFIG = AugmentConfig(copies=12, colour=0.0)


def labelled_frame(h: int = 60, w: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """A frame whose red channel says what the label is, in large blocks."""
    labels = np.zeros((h, w), np.int32)
    labels[10:35, 15:50], labels[40:55, 60:85] = 7, 70_000
    frame = np.zeros((h, w, 3), np.uint8)
    frame[labels == 7, 0], frame[labels == 70_000, 0] = 120, 240
    return frame, labels


def test_the_original_comes_first_and_nothing_is_made_before_it_is_asked_for() -> None:
    frame, labels = labelled_frame()
    copies = augmented_copies(frame, labels, AugmentConfig(copies=1000), seed=0)
    assert len(copies) == 1001 and copies[0][0] is frame and copies[0][1] is labels
    late = copies[-1]
    assert np.array_equal(late[0], list(copies)[1000][0]) and np.array_equal(late[1], copies[1000][1])
    assert len(copies[1:4]) == 3


def test_image_and_labels_are_warped_by_one_transform() -> None:
    frame, labels = labelled_frame()
    for image, warped in augmented_copies(frame, labels, CONFIG, seed=1):
        assert image.shape == frame.shape and image.dtype == np.uint8 and warped.dtype == np.int32
        assert set(np.unique(warped)) <= {0, 7, 70_000}
        red = image[..., 0].astype(int)
        for value, grey in ((0, 0), (7, 120), (70_000, 240)):
            # Only contours, which are interpolated in the image, may differ.
            own = (warped == value).astype(np.uint8)
            inside = cv2.erode(own, np.ones((3, 3), np.uint8), borderValue=(0,)) > 0
            assert np.all(np.abs(red[inside] - grey) <= 1)


def test_a_seed_repeats_itself_and_copies_differ() -> None:
    frame, labels = labelled_frame()
    one, two, other = (augmented_copies(frame, labels, CONFIG, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[2][1], other[2][1]) and not np.array_equal(one[1][1], one[2][1])


def test_the_published_ranges() -> None:
    """Scale within 5 %, rotation within 5 degrees, the centre shifted by 10 % at most, half flipped."""
    frame, labels = labelled_frame(100, 200)
    copies = augmented_copies(frame, labels, AugmentConfig(copies=200, colour=0.0), seed=0)
    matrices = np.stack([warp.matrix for warp in copies._warps])
    linear = matrices[:, :, :2]
    scales = np.sqrt(np.abs(np.linalg.det(linear)))
    assert 0.95 <= scales.min() < 0.96 and 1.04 < scales.max() <= 1.05
    flipped = np.linalg.det(linear) < 0
    assert flipped.sum() == 100
    angles = np.degrees(np.arctan2(linear[~flipped, 0, 1], linear[~flipped, 0, 0]))
    assert 4.5 < np.abs(angles).max() <= 5
    centre = matrices[~flipped] @ (100, 50, 1) - (100, 50)
    assert np.all(np.abs(centre) <= (20, 10)) and np.all(np.abs(centre).max(0) > (18, 9))


def test_colour_changes_the_image_alone() -> None:
    frame, labels = labelled_frame()
    plain = augmented_copies(frame, labels, AugmentConfig(copies=1, colour=0.0, shift=0.0), seed=0)
    jittered = augmented_copies(frame, labels, AugmentConfig(copies=1, colour=0.3, shift=0.0), seed=0)
    assert np.array_equal(plain[1][1], jittered[1][1])
    assert not np.array_equal(plain[1][0], jittered[1][0])


def test_samples_share_what_is_made_of_them() -> None:
    frame, labels = labelled_frame()
    samples = Samples(frame, labels, (7, 70_000), CONFIG, 0, torch.device("cpu"))
    made = samples.once("sum", lambda: [image.sum() for image, _ in samples.copies])
    assert len(made) == 13 and samples.once("sum", lambda: None) is made
