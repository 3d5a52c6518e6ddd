from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segspn.evaluation.measures import (
    boundary_f,
    boundary_map,
    frame_scores,
    region_j,
    tolerance_radius,
)


def mask(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


def boundary_by_hand(m: np.ndarray) -> np.ndarray:
    """The rule of the official seg2bmap, pixel by pixel."""
    height, width = m.shape
    out = np.zeros_like(m)
    for y in range(height):
        for x in range(width):
            right = x + 1 < width and m[y, x] != m[y, x + 1]
            below = y + 1 < height and m[y, x] != m[y + 1, x]
            inside = x + 1 < width and y + 1 < height
            out[y, x] = right or below or (inside and m[y, x] != m[y + 1, x + 1])
    return out


def f_by_hand(pred: np.ndarray, truth: np.ndarray, radius: int) -> float:
    """The definition of F: distances between all pairs of boundary pixels."""
    p, t = np.argwhere(boundary_by_hand(pred)), np.argwhere(boundary_by_hand(truth))
    if len(p) == 0 or len(t) == 0:
        return float(len(p) == len(t))
    near = ((p[:, None] - t[None]) ** 2).sum(-1) <= radius**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(seed: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.zeros(size, bool)
    for _ in range(rng.integers(0, 4)):
        y, x = rng.integers(-4, size[0] + 4), rng.integers(-4, size[1] + 4)
        h, w = rng.integers(1, 14, 2)
        out[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] ^= True
    return out


A = mask(
    "......",
    ".##...",
    ".##...",
    "......",
)
B = mask(
    "......",
    "..##..",
    "..##..",
    "......",
)
EMPTY = np.zeros_like(A)
FULL = np.ones_like(A)


def test_j_counted_by_hand():
    assert region_j(A, B) == 2 / 6
    assert region_j(A, FULL) == 4 / 24
    assert region_j(A, A) == 1.0


def test_boundary_drawn_by_hand():
    expected = mask(
        "###...",
        "#.#...",
        "###...",
        "......",
    )
    np.testing.assert_array_equal(boundary_map(A), expected)


def test_boundary_at_the_last_row_and_column():
    corner = mask("...", "..#", ".##")
    # In the last row (2,0) sees only its right neighbour, in the last column (1,2) only the lower
    # one, which is the same; (2,2) sees none.
    np.testing.assert_array_equal(boundary_map(corner), mask(".##", "##.", "#.."))


def test_f_counted_by_hand():
    # Both boundaries are rings of 8 pixels, columns 0-2 and 1-3. At radius 0 they share the ring
    # pixels (0,1) (0,2) (2,1) (2,2); (1,2) is a hole of B's ring, (1,1) one of A's.
    assert boundary_f(A, B, tolerance=0) == 4 / 8
    # At radius 1 each pixel has one of the other ring beside it.
    assert boundary_f(A, B, tolerance=1) == 1.0


def test_f_weighs_precision_against_recall():
    # The truth is a full image, cut by column 4 on: its boundary is column 3 of all four rows. The
    # ring of A (8 pixels) has the three pixels of column 2 within one pixel of it; of column 3, the
    # rows 0-2 are met, row 3 is sqrt(2) away from (2,2).
    truth = np.zeros_like(A)
    truth[:, :4] = True
    precision, recall = 3 / 8, 3 / 4
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f(A, truth, tolerance=1) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("pred", "truth", "j", "f"),
    [
        (EMPTY, EMPTY, 1.0, 1.0),
        (A, EMPTY, 0.0, 0.0),
        (EMPTY, A, 0.0, 0.0),
        # A mask that fills the image has no boundary, like an empty one.
        (FULL, FULL, 1.0, 1.0),
        (FULL, EMPTY, 0.0, 1.0),
        (A, FULL, 4 / 24, 0.0),
    ],
)
def test_empty_and_full(pred, truth, j, f):
    assert region_j(pred, truth) == j
    assert boundary_f(pred, truth) == f


def test_f_is_zero_when_all_boundaries_are_far_away():
    pred, truth = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    pred[2:5, 2:5] = truth[30:34, 30:34] = True
    assert boundary_f(pred, truth) == 0.0
    assert region_j(pred, truth) == 0.0


@pytest.mark.parametrize(
    ("size", "tolerance", "radius"),
    [((480, 854), 0.008, 8), ((1080, 1920), 0.008, 18), ((48, 64), 0.008, 1), ((9, 9), 3, 3)],
)
def test_radius(size, tolerance, radius):
    assert tolerance_radius(size, tolerance) == radius


@pytest.mark.parametrize("tolerance", [-0.1, math.nan])
def test_senseless_tolerance(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        boundary_f(A, B, tolerance)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="one size"):
        region_j(A, A[1:])
    with pytest.raises(ValueError, match="one size"):
        frame_scores(A[1:].astype(int), A.astype(int), (1,))


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 8, 18])
def test_matching_disk_is_the_round_one(radius):
    # A mask of the first pixel alone has that pixel as its boundary. A pixel at (y, x) has four, of
    # which (y - 1, x - 1) is nearest to it: F is above 0 exactly when that one is within reach.
    size = radius + 4
    truth = np.zeros((size, size), bool)
    truth[0, 0] = True
    for y in range(1, size - 1):
        for x in range(1, size - 1):
            pred = np.zeros((size, size), bool)
            pred[y, x] = True
            within = (y - 1) ** 2 + (x - 1) ** 2 <= radius**2
            assert (boundary_f(pred, truth, radius) > 0) == within


@pytest.mark.parametrize("size", [(31, 37), (24, 60), (1, 17), (17, 1), (2, 2), (1, 1)])
def test_random_blobs_against_the_definition(size):
    values = set()
    for seed in range(25):
        pred, truth = blobs(seed, size), blobs(seed + 1000, size)
        np.testing.assert_array_equal(boundary_map(pred), boundary_by_hand(pred))
        for radius in (1, 3):
            expected = f_by_hand(pred, truth, radius)
            assert boundary_f(pred, truth, radius) == pytest.approx(expected, abs=1e-15)
            values.add(round(expected, 6))
    assert size < (3, 3) or len(values) > 2


@settings(max_examples=60, deadline=None)
@given(
    arrays(bool, (11, 13), elements=st.booleans()),
    arrays(bool, (11, 13), elements=st.booleans()),
    st.integers(1, 4),
)
def test_noise_against_the_definition(pred, truth, radius):
    expected = f_by_hand(pred, truth, radius)
    assert boundary_f(pred, truth, radius) == pytest.approx(expected, abs=1e-15)
    union = (pred | truth).sum()
    assert region_j(pred, truth) == ((pred & truth).sum() / union if union else 1.0)


def test_frame_scores_take_each_object_alone():
    truth = 3 * A.astype(np.int32) + 7 * mask("#.....", "......", "......", ".....#")
    pred = 3 * B.astype(np.int32)
    pred[0, 5] = 4  # nobody's id
    j, f = frame_scores(pred, truth, (3, 7, 300))
    np.testing.assert_array_equal(j, [2 / 6, 0.0, 1.0])
    assert f[0] == boundary_f(B, A) and f[1] == 0.0 and f[2] == 1.0


def test_frame_scores_accept_any_memory_order():
    truth, pred = A.astype(np.int32), np.asfortranarray(B.astype(np.int32))
    np.testing.assert_array_equal(
        frame_scores(pred, truth, (1,)), frame_scores(B.astype(np.int32), truth, (1,))
    )
