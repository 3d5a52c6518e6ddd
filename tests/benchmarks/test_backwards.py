"""A data set played backwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.backwards import main, turn
from segspn.errors import InputError
from segspn.evaluation import open_davis
from segspn.video import read_labels, write_bytes, write_labels


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """One sequence of three frames, 00005 to 00007; each picture's bytes are its stem."""
    root = tmp_path / "davis"
    for kind in ("JPEGImages/480p/walk", "Annotations/480p/walk", "ImageSets/2016"):
        (root / kind).mkdir(parents=True)
    for t in (5, 6, 7):
        write_bytes(root / f"JPEGImages/480p/walk/{t:05d}.jpg", f"{t:05d}".encode())
        write_labels(root / f"Annotations/480p/walk/{t:05d}.png", np.full((2, 3), t, np.int32))
    write_bytes(root / "ImageSets/2016/val.txt", b"walk\n")
    return root


def test_frames_and_masks_come_last_first(davis: Path, tmp_path: Path) -> None:
    assert turn(davis, tmp_path / "back", 2016, "val") == 1
    (walk,) = open_davis(tmp_path / "back", 2016).sequences
    assert walk.frames == ("00000", "00001", "00002")
    assert [(walk.images / f"{f}.jpg").read_text() for f in walk.frames] == ["00007", "00006", "00005"]
    assert [int(read_labels(walk.annotation(f)).max()) for f in walk.frames] == [7, 6, 5]


def test_what_cannot_be_turned_is_told_before_anything_is_written(davis: Path, tmp_path: Path) -> None:
    (davis / "Annotations/480p/walk/00006.png").unlink()
    with pytest.raises(InputError, match="lacks its annotation"):
        turn(davis, tmp_path / "back", 2016, "val")
    assert not (tmp_path / "back").exists()
    with pytest.raises(SystemExit, match="is there already"):
        main(["--davis", str(davis), "--out", str(davis)])
