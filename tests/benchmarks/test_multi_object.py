"""Composed clips of several objects, and the count of identity switches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.composer import VISIBLE, compose
from benchmarks.identity import Run, confused, runs, switches
from segspn.errors import InputError
from segspn.evaluation import open_davis
from segspn.video import open_source, read_labels

SIZE = (120, 200)
FRAMES = 30
IDS = (1, 2)


def row(*spans: tuple[int, int, int]) -> np.ndarray:
    """A label map of one row of ten pixels: (id, first, stop) each."""
    labels = np.zeros((1, 10), np.int32)
    for i, first, stop in spans:
        labels[0, first:stop] = i
    return labels


TRUTH = row((1, 0, 4), (2, 6, 10))


@pytest.mark.parametrize(
    ("predicted", "switched"),
    [
        (TRUTH, [0, 0]),
        (row((2, 0, 4), (1, 6, 10)), [2, 1]),  # exchanged
        (row((2, 6, 10)), [0, 0]),  # lost is not switched
        (row((1, 0, 8), (2, 8, 10)), [0, 0]),  # 1: own 4/8, other's 2/10; 2: own 2/4
        (row((1, 3, 9), (2, 9, 10)), [2, 0]),  # 1: own 1/9, other's 3/7
        (row((1, 4, 7)), [2, 0]),  # 1: own 0, other's 1/6, above the least of 0.1
        (row((1, 4, 6)), [0, 0]),  # on the background
    ],
)
def test_switches_by_hand(predicted: np.ndarray, switched: list[int]) -> None:
    assert switches(predicted, TRUTH, IDS).tolist() == switched


def test_a_mask_that_stays_on_what_hides_its_object_is_a_switch() -> None:
    assert switches(row((1, 6, 9), (2, 9, 10)), row((2, 6, 10)), IDS).tolist() == [2, 0]
    # IoU 1/11 with the other is the rim of a neighbour.
    truth = np.concatenate([row((2, 0, 10)), row()], 1)
    predicted = np.concatenate([row(), row()], 1)
    predicted[0, 9:11] = 1
    assert switches(predicted, truth, IDS).tolist() == [0, 0]


def test_pixels_taken_by_another_object_are_counted() -> None:
    assert confused(TRUTH, TRUTH) == 0
    assert confused(row((1, 0, 8), (2, 8, 9)), TRUTH) == 2 / 8
    assert confused(row(), TRUTH) == 0


def test_runs_end_where_an_object_is_itself_again() -> None:
    switched = np.array([[2, 0], [3, 0], [0, 1], [2, 1]])
    assert runs(switched, IDS) == [Run(1, 0, 2, (2, 3)), Run(1, 3, 1, (2,)), Run(2, 2, 2, (1,))]
    assert runs(np.zeros((4, 2), int), IDS) == []


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of a bright disc that wobbles over a dark ground."""
    root = tmp_path_factory.mktemp("davis")
    for name, colour, x0 in (("red", (200, 40, 40), 60), ("blue", (40, 40, 200), 140)):
        images, annotations = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for t in range(FRAMES):
            mask = np.zeros(SIZE, np.uint8)
            cv2.circle(mask, (x0 + round(5 * np.sin(t)), 60), 16, 255, -1)
            picture = np.where(mask[..., None] > 0, np.uint8(colour), np.uint8(60))
            cv2.imwrite(str(images / f"{t:05d}.jpg"), picture[..., ::-1])
            cv2.imwrite(str(annotations / f"{t:05d}.png"), mask)
    (root / "ImageSets/2016").mkdir(parents=True)
    (root / "ImageSets/2016/val.txt").write_text("red\nblue\n")
    return root


def test_composed_clips_keep_their_promises(davis: Path, tmp_path: Path) -> None:
    made = [compose(davis, tmp_path / n, 2016, "val", 2, 3, FRAMES, 1) for n in ("a", "b")]
    for files in zip(*(sorted(r.rglob("*.*")) for (r, _) in made), strict=True):
        assert files[0].read_bytes() == files[1].read_bytes()
    composed, alone = made[0]
    assert [s.name for s in open_davis(composed).sequences] == ["00-red", "01-blue-alike"]
    pairs = zip(open_davis(composed).sequences, open_davis(alone).sequences, strict=True)
    for sequence, single in pairs:
        labels = np.stack([read_labels(sequence.annotation(stem)) for stem in sequence.frames])
        whole = np.stack([read_labels(single.annotation(stem)) for stem in single.frames])
        assert labels.shape == whole.shape == (FRAMES, *SIZE)
        assert set(np.unique(labels)) == {0, 1, 2, 3} and set(np.unique(whole)) == {0, 1}
        assert all((labels[0] == i).mean() >= VISIBLE for i in (1, 2, 3))
        areas = np.stack([(labels == i).sum((1, 2)) for i in (1, 2, 3)])
        assert (areas.min(1) < 0.6 * areas.max(1)).any()  # something is hidden
        assert not ((labels == 1) & (whole == 0)).any()  # the base's object is where it was
        # Masks are exact: pixels well inside a disc have its colour, whatever lies behind.
        for t, frame in enumerate(open_source(sequence.images).read()):
            for i in (1, 2, 3):
                inside = cv2.erode((labels[t] == i).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
                assert not inside.any() or (frame[inside].max(1) > 150).mean() > 0.98
            outside = cv2.dilate((labels[t] > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
            assert (np.abs(frame[outside].astype(int) - 60) < 30).mean() > 0.99


def test_a_clip_of_one_object_and_a_folder_in_use_are_refused(davis: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--objects 1"):
        compose(davis, tmp_path / "c", 2016, "val", 1, 1, FRAMES, 0)
    with pytest.raises(InputError, match="there already"):
        compose(davis, tmp_path, 2016, "val", 1, 2, FRAMES, 0)
    assert not any(tmp_path.iterdir())
