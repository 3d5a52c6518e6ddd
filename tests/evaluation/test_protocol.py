from __future__ import annotations

import numpy as np
import pytest

from segspn.evaluation.protocol import (
    Evaluation,
    SequenceScores,
    Statistics,
    decay_quarters,
    object_ids,
    scored_frames,
    statistics,
    truth_labels,
)


def official_edges(count: int) -> np.ndarray:
    """The official bin edges before they are squeezed into 8 bits."""
    return np.round(np.linspace(1, count, 5) + 1e-10) - 1


def test_statistics_by_hand():
    # Eight frames: edges round(1, 2.75, 4.5, 6.25, 8) - 1 = 0, 2, 4 (4.5 + 1e-10 rounds up), 5, 7.
    values = np.array([1.0, 0.8, 0.6, 0.5, 0.5, 0.3, 0.2, 0.1])
    found = statistics(values)
    assert found.mean == pytest.approx(0.5)
    assert found.recall == 3 / 8  # 0.5 itself does not count
    assert found.decay == pytest.approx((1.0 + 0.8 + 0.6) / 3 - (0.3 + 0.2 + 0.1) / 3)


@pytest.mark.parametrize("count", [*range(1, 60), 254, 255])
def test_quarters_are_the_official_ones_up_to_255_frames(count):
    edges = official_edges(count).astype(np.uint8)
    first, last = decay_quarters(count)
    assert (first.start, first.stop) == (edges[0], edges[1] + 1)
    assert (last.start, last.stop) == (edges[3], edges[4] + 1)


def test_decay_of_256_frames():
    # Edges 0, 64 (round(64.75) - 1), .., 191 (round(192.25) - 1), 255; the official 255 + 1 is 0.
    assert decay_quarters(256) == (slice(0, 65), slice(191, 256))


def test_decay_of_more_than_256_frames():
    values = np.linspace(1.0, 0.0, 300)
    # Edges 0, 75, 150, 224, 299: the first quarter is frames 0-75, the last 224-299.
    expected = values[:76].mean() - values[224:].mean()
    assert statistics(values).decay == pytest.approx(expected)
    wrapped = official_edges(300).astype(int).astype(np.uint8)
    official_quarter = values[wrapped[3] : wrapped[4] + 1]
    assert len(official_quarter) == 0  # what the 8-bit edges would have made of it


def test_one_frame_has_no_decay():
    assert statistics(np.array([0.7])) == Statistics(0.7, 1.0, 0.0)


def test_no_frames():
    with pytest.raises(ValueError, match="no frames"):
        statistics(np.array([]))


def test_objects_count_the_same_whatever_their_sequence():
    one = SequenceScores("a", ("00001",), (1,), np.array([[0.9]]), np.array([[0.5]]))
    two = SequenceScores(
        "b", ("00001", "00002"), (2, 7), np.array([[0.1, 0.3], [0.0, 0.0]]), np.zeros((2, 2))
    )
    evaluation = Evaluation(2017, "val", (one, two))
    assert [o.name for o in evaluation.objects] == ["a_1", "b_2", "b_7"]
    assert evaluation.total.j.mean == pytest.approx((0.9 + 0.2 + 0.0) / 3)
    assert evaluation.total.f.mean == pytest.approx(0.5 / 3)
    assert evaluation.total.jf == pytest.approx((1.1 / 3 + 0.5 / 3) / 2)
    assert evaluation.total.j.recall == pytest.approx(1 / 3)


def test_void_is_background_but_not_in_2016():
    labels = np.array([[0, 1, 255, 3]], np.int32)
    np.testing.assert_array_equal(truth_labels(labels, 2017), [[0, 1, 0, 3]])
    np.testing.assert_array_equal(truth_labels(labels, 2016), [[0, 1, 1, 1]])
    assert object_ids(truth_labels(labels, 2017)) == (1, 3)
    assert object_ids(truth_labels(labels, 2016)) == (1,)
    np.testing.assert_array_equal(labels, [[0, 1, 255, 3]])


def test_first_and_last_frames_do_not_count():
    assert scored_frames(("00000", "00001", "00002", "00003")) == ("00001", "00002")
    assert scored_frames(("00000", "00001")) == ()
