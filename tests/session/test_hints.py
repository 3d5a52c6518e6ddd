"""Boxes, clicks and scribbles given to a session."""

from __future__ import annotations

import numpy as np
import pytest
from session_clips import Clip, iou

from segspn.errors import InputError
from segspn.pipeline import Segmenter
from segspn.prompts.users import framed, stroke

pytestmark = pytest.mark.usefixtures("one_thread")


def test_objects_from_hints_alone_are_followed(segmenter: Segmenter, video: Clip) -> None:
    frame, truth = video[0]
    session = segmenter.session()
    labels = session.annotate(frame, box=framed(truth == 3))
    assert session.ids == (1,) and iou(labels == 1, truth == 3) > 0.75
    strokes = np.where(stroke(truth == 7, np.random.default_rng(0)), 7, 0)
    strokes[2:6, 60:80] = -1
    labels = session.annotate(frame, scribbles=strokes)
    assert session.ids == (1, 7) and iou(labels == 7, truth == 7) > 0.75
    assert iou(labels == 1, truth == 3) > 0.75  # the other one is as it was
    result = session.step(video[1][0])
    assert iou(result.labels == 1, video[1][1] == 3) > 0.7
    # A click in a later frame, on a known object.
    y, x = np.argwhere(video[2][1] == 3).mean(0).round()
    labels = session.annotate(video[2][0], points=[(x, y)], object_id=1)
    assert session.ids == (1, 7) and labels[int(y), int(x)] == 1


def test_hints_in_one_frame_are_taken_together(segmenter: Segmenter, video: Clip) -> None:
    frame, truth = video[0]
    x0, y0, x1, y1 = framed(truth == 7)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    session = segmenter.session()
    session.annotate(frame, points=[middle])
    labels = session.annotate(frame, points=[(x0 + 3, y0 + 3, False)], object_id=1)
    assert labels[y0 + 3, x0 + 3] == 0 and labels[int(middle[1]), int(middle[0])] == 1
    background = np.zeros_like(truth)
    background[y1 - 6 : y1 - 3, x0 + 5 : x1 - 5] = -1
    labels = session.annotate(frame, scribbles=background)  # meant for what it touches
    assert not (labels[background < 0] > 0).any() and labels[int(middle[1]), int(middle[0])] == 1
    labels = session.correct(points=[(x0 + 3, y0 + 3, True)])  # it was right after all
    assert labels[y0 + 3, x0 + 3] == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "nothing is marked"),
        ({"box": (1, 2, 3)}, r"a box is \(x0, y0, x1, y1\)"),
        ({"box": (200, 2, 300, 40)}, "holds no pixel of the 144x96 frame"),
        ({"points": [(150, 5)]}, r"point \(150, 5\) lies outside the frame of 144x96"),
        ({"points": [(1,)]}, r"a point is \(x, y, positive\)"),
        ({"scribbles": np.zeros((96, 144), int)}, "the scribbles are empty"),
        ({"scribbles": np.full((96, 144), -1)}, "background where no object is"),
        ({"scribbles": np.ones((9, 14), int)}, "the scribbles is 14x9, the frame 144x96"),
        ({"mask": np.ones((96, 144), float)}, "the mask must be bool or whole numbers"),
        ({"mask": np.ones((96, 144), int), "box": (1, 1, 9, 9)}, "not both"),
        ({"box": (1, 1, 9, 9), "object_id": 0}, "object_id must be a whole number from 1"),
    ],
)
def test_marks_that_make_no_sense(
    segmenter: Segmenter, video: Clip, given: dict, told: str
) -> None:
    session = segmenter.session()
    with pytest.raises(InputError, match=told):
        session.annotate(video[0][0], **given)
    assert session.ids == () and session.size is None  # nothing has happened
    with pytest.raises(InputError, match=r"a frame is uint8 RGB"):
        session.annotate(video[0][0].astype(float), box=(1, 1, 9, 9))
