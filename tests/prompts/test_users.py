"""Simulated users do what people do."""

from __future__ import annotations

import numpy as np

from segspn.prompts.users import depth, framed, stroke, worst_click


def disc(cx: int, cy: int, radius: int) -> np.ndarray:
    y, x = np.mgrid[:80, :120]
    return (x - cx) ** 2 + (y - cy) ** 2 <= radius**2


def test_a_click_goes_into_the_middle_of_the_worst() -> None:
    truth = disc(40, 30, 20)
    x, y, positive = worst_click(np.zeros_like(truth), truth) or (0, 0, False)
    assert abs(x - 40) <= 1 and abs(y - 30) <= 1 and positive
    # What is too much elsewhere is larger than what is missing.
    found = disc(95, 60, 15) | disc(40, 30, 18)
    x, y, positive = worst_click(found, truth) or (0, 0, True)
    assert abs(x - 95) <= 1 and abs(y - 60) <= 1 and not positive
    assert worst_click(truth, truth) is None


def test_depth_counts_the_frame_as_a_border() -> None:
    whole = np.ones((20, 30), bool)
    assert np.unravel_index(depth(whole).argmax(), whole.shape)[0] in (9, 10)


def test_a_stroke_stays_inside_and_runs_along() -> None:
    mask = np.zeros((80, 120), bool)
    mask[30:50, 10:110] = True
    for seed in range(5):
        drawn = stroke(mask, np.random.default_rng(seed), 4)
        assert drawn.any() and not (drawn & ~mask).any()
        x0, _, x1, _ = framed(drawn)
        assert x1 - x0 > 40, seed
    assert not stroke(np.zeros_like(mask), np.random.default_rng(0)).any()
