"""Results as detections of the supervision package."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import segspn
from segspn.errors import InputError
from segspn.pipeline import Result, Stages


def result() -> Result:
    """Object 3 in a corner, object 5 out of sight, object 9 in the middle."""
    labels = np.zeros((20, 30), np.int32)
    labels[:4, :6], labels[8:12, 10:25] = 3, 9
    scores = np.stack([(labels == i) * s for i, s in ((3, 0.75), (5, 0.5), (9, 1.0))])
    stages = Stages(scores, lambda maps: maps.numpy(), None, None)  # type: ignore[arg-type]
    return Result(labels, scores.astype(np.float32), (3, 5, 9), stages, {})


def test_what_is_visible_is_detected() -> None:
    sv = pytest.importorskip("supervision")
    found = segspn.to_supervision(result())
    assert isinstance(found, sv.Detections) and found.tracker_id.tolist() == [3, 9]
    assert found.mask.dtype == bool and np.array_equal(found.mask[1], result().labels == 9)
    assert found.xyxy.tolist() == [[0, 0, 5, 3], [10, 8, 24, 11]]
    assert found.confidence.tolist() == [0.75, 1.0]
    frame = np.zeros((20, 30, 3), np.uint8)
    painter = sv.MaskAnnotator(color_lookup=sv.ColorLookup.TRACK, opacity=1.0)
    painted = painter.annotate(frame, found)
    assert painted[10, 12].any() and painted[1, 1].any() and not painted[15, 15].any()
    none = result()
    none.labels[:] = 0
    assert len(segspn.to_supervision(none)) == 0


def test_without_the_package_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="supervision is not installed: pip install 'supervision"):
        segspn.to_supervision(result())
