import numpy as np
import pytest

from segspn.craf import merge
from segspn.craf.regions import Regions


def test_merge_highest_tie_threshold_foreground():
    a = [[0.9, 0.6, 0.5, 0.49, 0.2, 0.8]]
    b = [[0.1, 0.7, 0.5, 0.10, 0.4, 0.9]]
    scores = np.array([a, b], np.float32)
    labels = merge(scores, (3, 7), 0.5)
    assert labels.dtype == np.int32
    assert labels.tolist() == [[3, 7, 3, 0, 0, 7]]
    inside = np.array([[True, False, True, True, True, True]])
    assert merge(scores, (3, 7), 0.5, inside).tolist() == [[3, 0, 3, 0, 0, 7]]
    assert merge(scores, (3, 7), 0.3).tolist() == [[3, 7, 3, 3, 7, 7]]


def test_merge_three_way_tie_goes_to_lowest_id():
    assert merge(np.full((3, 1, 1), 0.7, np.float32), (2, 5, 9)).tolist() == [[2]]


def test_merge_refuses_ids_that_do_not_fit():
    with pytest.raises(ValueError, match="2 ids"):
        merge(np.zeros((3, 2, 2), np.float32), (1, 2))


def test_regions_are_numbered_by_column():
    binary = np.array([[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1]], bool)
    regions = Regions(binary)  # by rows the pixel on top would come first
    assert regions.areas.tolist() == [1, 1, 2]
    assert list(zip(*(r.tolist() for r in regions.first), strict=True)) == [(2, 0), (0, 2), (2, 3)]


def test_regions_column_order_holds_where_a_block_scan_would_differ():
    # Random dots: a 2x2 block scan numbers most of these otherwise than a pixel scan does.
    rng = np.random.default_rng(1)
    for _ in range(20):
        regions = Regions(rng.random((17, 23)) < 0.2)
        position = regions.first[1] * 17 + regions.first[0]
        assert (np.diff(position) > 0).all()


def test_regions_touch_at_corners_and_measure():
    binary = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], bool)
    regions = Regions(binary)
    assert regions.areas.tolist() == [2, 1]
    other = np.zeros((4, 3), bool)
    other[1] = True
    assert regions.count(other).tolist() == [1, 0]
    assert regions.iou(other).tolist() == [1 / 4, 0]
    values = np.arange(12.0).reshape(4, 3)
    assert regions.mean(values).tolist() == [2.0, 9.0]
    assert np.argwhere(regions.mask(np.array([False, True]))).tolist() == [[3, 0]]


def test_regions_at_the_crossings_of_rows_and_columns():
    binary = np.zeros((9, 12), bool)
    binary[2:5, 3:6], binary[6:9, 8:12] = True, True
    regions = Regions(binary)
    rows, columns = np.array([0, 3, 6, 8]), np.array([1, 4, 5, 11])
    whole = np.zeros(binary.shape, np.int32)
    whole[2:5, 3:6], whole[6:9, 8:12] = 1, 2
    assert np.array_equal(regions.at(rows, columns), whole[np.ix_(rows, columns)])
    assert not Regions(np.zeros((9, 12), bool)).at(rows, columns).any()


def test_no_region():
    regions = Regions(np.zeros((4, 5), bool))
    assert len(regions) == 0
    assert not regions.mask(np.zeros(0, bool)).any()
    assert regions.mask(np.zeros(0, bool)).shape == (4, 5)
