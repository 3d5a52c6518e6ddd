import numpy as np

from segspn.craf import build_craf


def run(previous, *scores, ids=(1,)):
    craf = build_craf("paper", ids)
    craf.start(np.array(previous, np.int32))
    result = craf.step(np.array(scores, np.float32))
    return result.scores.round(3).tolist(), result.labels.tolist()


def test_one_region_stays_and_everything_else_is_zero():
    scores, labels = run([[1, 1, 0, 0, 0]], [[0.75, 0.625, 0.5, 0.25, 0.875]])
    assert scores == [[[0.75, 0.625, 0, 0, 0]]]  # 0.5 is not above the threshold
    assert labels == [[1, 1, 0, 0, 0]]


def test_equal_iou_takes_the_larger_region():
    # No overlap at all: every IoU is 0.
    _, labels = run([[1, 0, 0, 0, 0, 0]], [[0, 0, 0.75, 0, 0.75, 0.75]])
    assert labels == [[0, 0, 0, 0, 1, 1]]


def test_best_region_must_exceed_a_fifth_of_the_largest():
    # The best region has 1 pixel, the largest 5: nothing is selected, and step 3 brings the single
    # pixel (IoU 1) back, as it is a region that no object has selected.
    far = [0.75] * 5
    assert run([[1, 0, *[0] * 5]], [[0.75, 0, *far]])[1] == [[1, 0, *[0] * 5]]
    # With IoU 1/3, not above 0.4, it does not come back ...
    assert run([[1, 1, 1, 0, *[0] * 5]], [[0.75, 0, 0, 0, *far]])[1] == [[0] * 9]
    # ... and with 4 pixels in the largest region it is selected in step 1.
    assert run([[1, 1, 1, 0, *[0] * 5]], [[0.75, 0, 0, 0, *far[1:], 0]])[1] == [[1, *[0] * 8]]


def test_covering_object_loses_the_covered_pixels():
    wide, narrow = [[0.875] * 6], [[0, 0, 0, 0, 0.75, 0.75]]
    scores, labels = run([[1, 1, 1, 1, 2, 2]], wide, narrow, ids=(1, 2))
    assert labels == [[1, 1, 1, 1, 2, 2]]
    assert scores[0] == [[0.875, 0.875, 0.875, 0.875, 0, 0]]


def test_coverage_of_nine_tenths_is_not_enough():
    wide = [[0.875] * 13 + [0]]
    narrow = [[0] * 4 + [0.75] * 10]  # 9 of 10 pixels covered
    scores, labels = run([[1] * 4 + [2] * 10], wide, narrow, ids=(1, 2))
    assert labels == [[1] * 13 + [2]]
    narrow = [[0] * 3 + [0.75] * 11]  # 10 of 11
    assert run([[1] * 4 + [2] * 10], wide, narrow, ids=(1, 2))[1] == [[1] * 3 + [2] * 11]


def test_lost_object_recovers_a_region_of_another_map():
    # Object 2's map shines on both; object 1's is dark.
    previous = [[1, 1, 0, 2, 2, 2]]
    scores, labels = run(previous, [[0] * 6], [[0.75, 0.625, 0, 0.75, 0.75, 0.75]], ids=(1, 2))
    assert labels == previous
    assert scores == [[[0.75, 0.625, 0, 0, 0, 0]], [[0, 0, 0, 0.75, 0.75, 0.75]]]


def test_object_at_a_tenth_of_its_size_does_not_recover():
    previous = [[1] * 20 + [0, 2, 2]]
    other = [[0] * 4 + [0.75] * 12 + [0] * 5 + [0.75] * 2]  # IoU 12/20 with object 1's mask
    # Object 2's own region has IoU 1 there, so the long one is free to be recovered.
    two = run(previous, [[0.75] * 2 + [0] * 21], other, ids=(1, 2))[1]
    assert two == [[1, 1] + [0] * 19 + [2, 2]]  # 2 of 20 is not below 0.1
    one = run(previous, [[0.75] + [0] * 22], other, ids=(1, 2))[1]
    assert one == [[0] * 4 + [1] * 12 + [0] * 5 + [2, 2]]


def test_region_selected_by_another_object_is_not_recovered():
    # Object 1's only region has IoU 4/6 with lost object 2, but it is object 1's selection.
    _, labels = run([[2, 2, 2, 2, 1, 1]], [[0.75] * 6], [[0] * 6], ids=(1, 2))
    assert labels == [[1] * 6]
