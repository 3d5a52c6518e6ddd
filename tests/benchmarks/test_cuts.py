"""What the benchmark of cuts counts, with a session that takes all that is bright for the object."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import cuts
from segspn.evaluation import open_davis
from segspn.video import write_labels

SIZE = (40, 60)


class Bright:
    """A session, and the segmenter that makes it; it loses the object for a frame after a cut."""

    def __init__(self) -> None:
        self.before: float | None = None

    def session(self) -> Bright:
        return Bright()

    def copy(self) -> Bright:
        other = Bright()
        other.before = self.before
        return other

    def annotate(self, frame: np.ndarray, mask: np.ndarray) -> None:
        self.step(frame)

    def step(self, frame: np.ndarray) -> SimpleNamespace:
        ground = float(np.median(frame))
        cut = self.before is not None and abs(ground - self.before) > 10
        self.before = ground
        return SimpleNamespace(labels=((frame[..., 0] > 200) & (not cut)).astype(np.int32))


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of 24 frames; the second one's object is twice as large and not annotated."""
    listed = tmp_path / "ImageSets/2016"
    listed.mkdir(parents=True)
    (listed / "val.txt").write_text("one\ntwo\n")
    for name, ground, size in (("one", 40, 10), ("two", 120, 20)):
        pictures, masks = (tmp_path / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        pictures.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t in range(24):
            frame, labels = np.full((*SIZE, 3), ground, np.uint8), np.zeros(SIZE, np.int32)
            frame[10:20, t : t + size] = 255
            labels[10:20, t : t + size] = 1
            cv2.imwrite(str(pictures / f"{t:05d}.png"), frame)
            write_labels(masks / f"{t:05d}.png", labels)
    return tmp_path


def test_false_area_and_overlap_after_cuts(davis: Path) -> None:
    one, two = open_davis(davis, 2016).sequences
    found = dict(zip(cuts.COLUMNS, cuts.cut_one(Bright(), one, [two]), strict=True))  # type: ignore[arg-type]
    assert found["before"] == found["mirrored"] == found["first mirrored"] == 1
    # Of 20 foreign frames the first one is empty, the others have twice the object's area.
    assert found["false"] == pytest.approx(2 * 19 / 20)
    # Nine frames are left when the film cuts back; the first one is lost.
    assert found["first back"] == 0 and found["back"] == pytest.approx(8 / 9)


def test_sequences_that_are_too_short_are_refused(davis: Path) -> None:
    for t in range(15, 24):
        (davis / f"Annotations/480p/two/{t:05d}.png").unlink()
    with pytest.raises(SystemExit, match="of more than 15 frames"):
        cuts.main(["--davis", str(davis)])
