from __future__ import annotations

import numpy as np
import pytest

from segspn.app.review import Look, doubt, doubts, look


@pytest.mark.parametrize(
    ("now", "before", "why"),
    [
        (Look(0.1, 0.95, False), Look(0.1, 0.95, False), None),
        (Look(0.1, 0.91, False), Look(0.1, 0.95, False), "unsure"),
        (Look(0.12, 0.95, False), Look(0.1, 0.95, False), None),
        (Look(0.14, 0.95, False), Look(0.1, 0.95, False), "grew suddenly"),
        (Look(0.07, 0.95, False), Look(0.1, 0.95, False), "shrank suddenly"),
        (Look(0.0, 0.0, False), Look(0.1, 0.95, False), "lost"),
        (Look(0.0, 0.0, False), Look(0.0, 0.0, False), None),
        (Look(0.1, 0.95, False), Look(0.0, 0.0, False), "appeared"),
        (Look(0.00002, 0.95, False), Look(0.00001, 0.95, False), None),
        (Look(0.1, 0.95, False), None, None),
        (Look(0.0, 1.0, True), Look(0.1, 0.95, False), None),
    ],
)
def test_doubt(now, before, why):
    assert doubt(now, before) == why


def test_look_measures_size_and_certainty():
    labels = np.zeros((10, 10), np.int32)
    labels[:2] = 3
    score = np.full((10, 10), 0.1, np.float32)
    score[0], score[1] = 1.0, 0.5
    assert look(labels, 3, score, drawn=False) == Look(0.2, 0.75, False)
    assert look(labels, 3, score, drawn=True) == Look(0.2, 1.0, True)
    assert look(labels, 4, score, drawn=False) == Look(0.0, 0.0, False)


def test_another_scene_is_no_reason_to_doubt():
    steady, gone = Look(0.1, 0.95, False), Look(0.0, 0.0, False)
    looks = {
        0: {1: steady, 2: gone, 3: steady, 4: steady},
        1: {1: gone, 2: steady, 3: Look(0.02, 0.95, False), 4: Look(0.1, 0.5, False)},
    }
    assert set(doubts(looks, range(2))[1]) == {1, 2, 3, 4}
    assert doubts(looks, range(2), {1}) == {1: {4: "unsure"}}


def test_doubts_of_frames():
    steady, small = Look(0.1, 0.95, False), Look(0.02, 0.95, False)
    looks = {0: {1: steady, 2: steady}, 1: {1: steady, 2: small}, 2: {1: steady, 2: small}}
    assert doubts(looks, range(4)) == {1: {2: "shrank suddenly"}}
