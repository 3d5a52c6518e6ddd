import numpy as np
import pytest

from segspn.craf import PARAMETER_SETS, PaperParams, build_craf
from segspn.errors import InputError

NAMES = sorted(PARAMETER_SETS)


def clip(seed=0, frames=8, count=2):
    """A label map and scores of drifting boxes with false islands."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((48, 64), np.int32)
    out = np.zeros((frames, count, 48, 64), np.float32)
    for n in range(count):
        labels[5 + 20 * n : 20 + 20 * n, 5:25] = n + 1
        for t in range(frames):
            if t + n != 6:  # once it vanishes
                out[t, n, 5 + 20 * n : 20 + 20 * n, 5 + t : 25 + t] = rng.uniform(0.6, 1)
            # larger than the object, so that only its history tells which is which
            out[t, n, 3 + 20 * n : 21 + 20 * n, 46:] = 0.7
            y, x = rng.integers(0, 40, 2)
            out[t, n, y : y + 8, x + 10 : x + 18] += 0.55
    return labels, np.clip(out, 0, 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_restored_filter_continues_identically(name, cut):
    labels, scores = clip()
    whole = build_craf(name, (1, 2))
    whole.start(labels)
    for s in scores[:cut]:
        whole.step(s)
    saved = whole.state()
    for value in saved.values():
        assert isinstance(value, (np.ndarray, int, float))
    kept = {k: np.array(v) for k, v in saved.items()}
    rest = [whole.step(s) for s in scores[cut:]]
    for k in kept:  # going on does not reach into the saved state
        assert np.array_equal(saved[k], kept[k])
    resumed = build_craf(name, (7,))
    resumed.restore(saved)
    assert resumed.ids == (1, 2)
    for s, want in zip(scores[cut:], rest, strict=True):
        got = resumed.step(s)
        assert np.array_equal(got.labels, want.labels)
        assert np.array_equal(got.scores, want.scores)
    # the state matters: with the objects swapped the continuation differs
    other = build_craf(name, (1, 2))
    other.start(np.array([0, 2, 1], np.int32)[labels])
    assert any(
        not np.array_equal(other.step(s).labels, w.labels)
        for s, w in zip(scores[cut:], rest, strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_output_kinds_and_untouched_input(name):
    labels, scores = clip()
    craf = build_craf(name, (1, 2))
    craf.start(labels)
    before = scores[0].copy()
    result = craf.step(scores[0])
    assert np.array_equal(scores[0], before)
    assert result.scores.dtype == np.float32 and result.labels.dtype == np.int32
    assert set(np.unique(result.labels)) == {0, 1, 2}
    state = craf.state()["previous"].copy()
    result.labels[:] = 9
    assert np.array_equal(craf.state()["previous"], state)


@pytest.mark.parametrize("name", NAMES)
def test_added_object_sorts_in_and_can_be_annotated(name):
    labels, scores = clip()
    craf = build_craf(name, (2,))
    craf.start(np.where(labels == 2, 2, 0).astype(np.int32))
    craf.step(scores[0, 1:])
    craf.add(1)
    assert craf.ids == (1, 2)
    craf.start(labels)
    result = craf.step(scores[1])
    assert set(np.unique(result.labels)) == {0, 1, 2}
    again = build_craf(name, (1, 2))
    again.start(labels)
    assert np.array_equal(again.step(scores[1]).labels, result.labels)


@pytest.mark.parametrize("name", NAMES)
def test_foreground_cuts_labels(name):
    labels, scores = clip()
    inside = np.zeros(labels.shape, bool)
    inside[:, :15] = True
    craf = build_craf(name, (1, 2))
    craf.start(labels)
    got = craf.step(scores[0], inside).labels
    assert got[:, :15].any() and not got[:, 15:].any()


def test_bad_input():
    labels, scores = clip()
    with pytest.raises(InputError, match="default, release, paper"):
        build_craf("best", (1,))
    for ids in ((), (0, 1), (1, 1)):
        with pytest.raises(InputError):
            build_craf("paper", ids)
    craf = build_craf(PaperParams(), (1,))
    with pytest.raises(RuntimeError, match="start"):
        craf.step(scores[0, :1])
    with pytest.raises(InputError, match=r"objects \[2\]"):
        craf.start(labels)
    craf.start(np.minimum(labels, 1))
    with pytest.raises(InputError, match="1 objects"):
        craf.step(scores[0])
    with pytest.raises(InputError, match="63x48 pixels .* 64x48"):
        craf.step(scores[0, :1, :, 1:])
    for wrong in (scores[0, :1] * 255, scores[0, :1] * np.nan, scores[0, :1] - 0.1):
        with pytest.raises(InputError, match="0..1"):
            craf.step(wrong)
    with pytest.raises(InputError, match="another parameter set"):
        build_craf("default", (1,)).restore(craf.state())
    with pytest.raises(InputError):
        craf.add(1)
