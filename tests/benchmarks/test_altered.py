"""A data set in other conditions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.altered import HOW, alter, behind_a_pole, main, zoom
from segspn.evaluation import open_davis
from segspn.video import read_labels, write_bytes, write_labels

H, W, T = 60, 100, 24


def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    """A white block of 20 x 20 in the middle of a grey picture."""
    picture = np.full((H, W, 3), 90, np.uint8)
    mask = np.zeros((H, W), bool)
    mask[20:40, 40:60] = True
    picture[mask] = 255
    return [(picture.copy(), mask.copy()) for _ in range(T)]


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "davis"
    for name in ("walk", "run"):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for t, (picture, mask) in enumerate(frames()):
            coded = cv2.imencode(".jpg", picture)[1].tobytes()
            write_bytes(root / f"JPEGImages/480p/{name}/{t:05d}.jpg", coded)
            write_labels(root / f"Annotations/480p/{name}/{t:05d}.png", mask.astype(np.int32))
    (root / "ImageSets/2016").mkdir(parents=True)
    write_bytes(root / "ImageSets/2016/val.txt", b"walk\nrun\n")
    return root


@pytest.mark.parametrize("how", sorted(HOW))
def test_masks_stay_on_their_object(davis: Path, tmp_path: Path, how: str) -> None:
    """White is the object's, and what is not grey nor white is the pole."""
    out = tmp_path / how
    assert alter(davis, out, how, 2016, "val") == 2
    for sequence in open_davis(out, 2016).sequences:
        assert len(sequence.frames) == T
        seen = 0
        for t, name in enumerate(sequence.frames):
            picture = cv2.imread(str(sequence.images / f"{name}.jpg")).mean(2)
            mask = read_labels(sequence.annotation(name)) > 0
            light = 0.3 ** (t / (T - 1)) if how == "dim" else 1.0
            inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
            outside = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) == 0
            if how == "poles":  # it shows a strip of the other picture, in which there is white as well
                outside[:] = False
            seen += inside.any()
            assert not inside.any() or abs(picture[inside] - 255 * light).mean() < 12
            assert not outside.any() or abs(picture[outside] - 90 * light).mean() < 12
        assert seen > T / 2


def test_what_passes_hides_half_and_never_all_at_once() -> None:
    shown = behind_a_pole(frames(), np.zeros((H, W, 3), np.uint8), to_right=True)
    areas = [int(mask.sum()) for _, mask in shown]
    assert areas[0] == areas[-1] == 400
    assert 180 <= min(areas) <= 220  # it is half as wide
    middle = shown[T // 2][1]
    assert middle[:, 40:45].any() and middle[:, 55:60].any() and not middle[:, 48:52].any()


def test_a_camera_comes_nearer_as_far_as_the_object_stays_in_view() -> None:
    masks = [mask for _, mask in frames()]
    maps = zoom(masks, inwards=True)
    assert maps[0, 0, 0] < 1.2 and 2.2 < maps[-1, 0, 0] <= 2.5
    large = [np.pad(np.ones((50, 80), bool), ((5, 5), (10, 10))) for _ in range(T)]
    assert zoom(large, inwards=True)[-1, 0, 0] < 1.2


def test_nothing_is_overwritten(davis: Path) -> None:
    with pytest.raises(SystemExit, match="is there already"):
        main(["--davis", str(davis), "--how", "dim", "--out", str(davis)])
