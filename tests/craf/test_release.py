import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from segspn.craf import build_craf

_SPEC = importlib.util.spec_from_file_location("literal", Path(__file__).with_name("literal.py"))
literal = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(literal)


def run(previous, *scores, ids=(1,), foreground=None):
    """One step; returns filtered 0..255 scores and labels."""
    craf = build_craf("release", ids)
    craf.start(np.array(previous, np.int32))
    result = craf.step(np.array(scores, np.uint8), foreground)
    return np.rint(result.scores * 255).astype(int).tolist(), result.labels.tolist()


def test_other_regions_are_zeroed_and_low_scores_stay():
    scores, labels = run([[1, 1, 0, 0, 0]], [[200, 90, 20, 0, 150]])
    assert scores == [[[200, 90, 20, 0, 0]]]
    assert labels == [[1, 0, 0, 0, 0]]


def test_thirty_is_outside_a_region_and_hundred_is_labelled():
    # 31 joins what lies on both sides of it, 30 does not.
    assert run([[1, 0, 0]], [[100, 31, 120]])[1] == [[1, 0, 1]]
    assert run([[1, 0, 0]], [[100, 30, 120]])[1] == [[1, 0, 0]]
    assert run([[1, 0, 0]], [[99, 31, 120]])[1] == [[0, 0, 1]]


def test_region_whose_first_pixel_is_255_survives():
    assert run([[1, 0, 0, 0]], [[200, 0, 255, 150]])[1] == [[1, 0, 1, 1]]
    assert run([[1, 0, 0, 0]], [[200, 0, 150, 255]])[1] == [[1, 0, 0, 0]]
    # first by columns is the lower left pixel, first by rows the upper right one
    assert run([[1, 0, 0, 0]] * 2, [[200, 0, 0, 150], [200, 0, 255, 0]])[1] == [
        [1, 0, 0, 1],
        [1, 0, 1, 0],
    ]


def test_no_overlap_or_no_previous_mask_empties_the_map():
    assert run([[1, 0, 0, 0]], [[20, 0, 200, 200]])[0] == [[[0, 0, 0, 0]]]
    assert run([[2, 0, 0, 0]], [[20, 0, 200, 200]], [[0] * 4], ids=(1, 2))[0][0] == [[0, 0, 0, 0]]


def test_no_region_leaves_the_map():
    assert run([[1, 1, 0]], [[30, 7, 0]])[0] == [[[30, 7, 0]]]


def test_small_best_region_is_set_to_255_and_kept():
    # Region a (1 pixel, J 1/2) is 1/5 of region b (5 pixels, J 1/6): not more than 0.2.
    previous = [[1, 0, 1, 0, 0, 0, 0, 0, 0]]
    scores, _ = run(previous, [[90, 0, 150, 150, 150, 150, 150, 0, 150]])
    assert scores == [[[255, 0, 150, 150, 150, 150, 150, 0, 0]]]
    # With 4 pixels in b, a is a quarter of it and wins.
    scores, _ = run(previous, [[90, 0, 150, 150, 150, 150, 0, 0, 150]])
    assert scores == [[[90, 0, 0, 0, 0, 0, 0, 0, 0]]]


def test_scan_goes_on_cyclically_after_a_rejection():
    # Two equal regions a and b around a small one, s. J is 1/3 for s, 1/8 for a and b each: s is
    # looked at first and rejected; from there the next of the equals is b, not a.
    a, b = slice(0, 6), slice(9, 15)
    score = np.zeros((1, 15), int)
    score[:, a] = score[:, b] = 150
    score[0, 7] = 150
    previous = np.zeros((1, 15), int)
    previous[0, [5, 7, 9]] = 1
    scores, _ = run(previous.tolist(), score.tolist())
    expected = np.zeros((1, 15), int)
    expected[:, b], expected[0, 7] = 150, 255
    assert scores == [expected.tolist()]


def test_equal_scores_go_to_the_lower_id_and_foreground_cuts():
    previous = [[3, 5, 0]]
    inside = np.array([[True, True, False]])
    args = ([[200, 200, 200]], [[200, 201, 199]])
    assert run(previous, *args, ids=(3, 5))[1] == [[3, 5, 3]]
    assert run(previous, *args, ids=(3, 5), foreground=inside)[1] == [[3, 5, 0]]


def test_recovery_takes_a_region_from_another_object():
    # Object 1 had 100 pixels and loses all; object 2's unfiltered map covers them as an island.
    previous = np.zeros((12, 40), int)
    previous[1:11, 1:11], previous[1:11, 20:30] = 1, 2
    two = np.zeros((12, 40), int)
    two[1:11, 1:11], two[1:11, 20:30] = 50, 200
    _, labels = run(previous.tolist(), np.zeros_like(two).tolist(), two.tolist(), ids=(1, 2))
    assert np.array_equal(labels, previous)
    # 99 pixels are not worth it
    previous[1, 1] = 0
    _, labels = run(previous.tolist(), np.zeros_like(two).tolist(), two.tolist(), ids=(1, 2))
    assert np.array_equal(labels, np.where(previous == 2, 2, 0))


@pytest.mark.parametrize(("left", "recovered"), [(29, True), (30, False)])
def test_recovery_starts_below_three_tenths(left, recovered):
    previous = np.ones((10, 10), int)
    score = np.full((10, 10), 90)
    score.T.flat[:left] = 150  # the rest of the region stays below the label score
    _, labels = run(previous.tolist(), score.tolist())
    assert np.count_nonzero(labels) == (100 if recovered else left)


def blobs(rng, size, count):
    """Smooth random 0..255 scores with plateaus, exact 255s and shared values."""
    out = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (size[0] // 3 + 1, size[1] // 3 + 1))
        coarse[rng.random(coarse.shape) < 0.55] = 0
        fine = np.kron(coarse, np.ones((3, 3), int))[: size[0], : size[1]]
        fine[rng.random(size) < 0.15] = rng.choice([0, 20, 30, 31, 99, 100, 254, 255])
        out.append(fine)
    if count > 1 and rng.random() < 0.5:
        out[1] = np.where(rng.random(size) < 0.5, out[0], out[1])
    if rng.random() < 0.2:
        out[int(rng.integers(count))][:] = 0
    return out


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equals_the_literal_transcription(count):
    rng = np.random.default_rng(count)
    ids = (2, 3, 9)[:count]
    rejected = recovered = 0
    for _ in range(25):
        size = tuple(int(n) for n in rng.integers(8, 30, 2))
        previous = np.kron(rng.integers(0, count + 1, (3, 3)), np.ones((10, 10), int))
        previous = np.array([0, *ids])[previous[: size[0], : size[1]]]
        inside = rng.random(size) < 0.9 if rng.random() < 0.5 else np.ones(size, bool)
        craf = build_craf("release", ids)
        craf.start(previous.astype(np.int32))
        for _ in range(3):
            scores = blobs(rng, size, count)
            want, labels = literal.release_frame(
                [s.tolist() for s in scores], ids, previous.tolist(), inside.tolist()
            )
            got = craf.step(np.array(scores, np.uint8), inside)
            assert np.array_equal(np.rint(got.scores * 255), want)
            assert np.array_equal(got.labels, labels)
            previous = np.array(labels)
            best = np.max(want, axis=0)
            recovered += bool((previous[best < 100] > 0).any())
            rejected += bool(((np.array(want) == 255) & (np.array(scores) < 255)).any())
    assert rejected and recovered  # the rare branches were taken


def test_eight_bit_floats_and_bytes_agree():
    rng = np.random.default_rng(5)
    scores = np.array(blobs(rng, (20, 30), 2), np.uint8)
    previous = np.kron([[1, 2, 0]], np.ones((20, 10), int)).astype(np.int32)
    results = []
    for s in (scores, scores.astype(np.float32) / 255):
        craf = build_craf("release", (1, 2))
        craf.start(previous)
        results.append(craf.step(s))
    assert np.array_equal(results[0].labels, results[1].labels)
    assert np.array_equal(results[0].scores, results[1].scores)
    assert results[0].labels.any()


@pytest.mark.skipif(
    "SEGSPN_CRAF_RUNNING" not in os.environ,
    reason="SEGSPN_CRAF_RUNNING does not name the folder of the authors' scores of 'running'",
)
def test_authors_scores_equal_the_literal_transcription():
    from PIL import Image

    from segspn.craf import filter_folder

    def read(path):
        return np.asarray(Image.open(path))

    folder = Path(os.environ["SEGSPN_CRAF_RUNNING"])
    previous = read(folder / "annotation_00000.png").astype(np.int32)
    everything = np.ones(previous.shape, bool).tolist()
    frames = 0
    for _, result, raw in filter_folder(folder, previous, (1, 2), "release", read_score=read):
        want, labels = literal.release_frame(raw.tolist(), (1, 2), previous.tolist(), everything)
        assert np.array_equal(np.rint(result.scores * 255), want)
        assert np.array_equal(result.labels, labels)
        previous = np.array(labels)
        frames += 1
    assert frames >= 19
