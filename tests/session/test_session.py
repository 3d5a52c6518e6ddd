"""Annotate at any moment, correct, remove, go back: what a user of a session relies on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from session_clips import Clip, clip, clip_with_pillar, iou

from segspn.craf import CrafResult, Sight
from segspn.errors import InputError
from segspn.pipeline import Result, Segmenter, Session
from segspn.video import open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "bigbuckbunny.mp4"

pytestmark = pytest.mark.usefixtures("one_thread")


def same(a: Result, b: Result) -> bool:
    return (
        a.ids == b.ids
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.scores, b.scores)
    )


def only(labels: np.ndarray, object_id: int) -> np.ndarray:
    return np.where(labels == object_id, labels, 0)


def test_a_new_object_in_the_middle(segmenter: Segmenter, video: Clip) -> None:
    session = segmenter.session()
    labels = session.annotate(video[0][0], only(video[0][1], 3))
    assert labels.dtype == np.int32 and np.array_equal(labels, only(video[0][1], 3))
    session.step(video[1][0])
    # The next frame: object 3 is found in it, object 7 is told.
    frame, truth = video[2]
    labels = session.annotate(frame, only(truth, 7))
    assert session.ids == (3, 7) and session.index == 3
    assert np.array_equal(labels == 7, truth == 7) and iou(labels == 3, truth == 3) > 0.75
    result = session.step(video[3][0])
    assert result.ids == (3, 7) and result.timings["fit"] > 0
    for i in (3, 7):
        assert iou(result.labels == i, video[3][1] == i) > 0.75, i
    assert "fit" not in session.step(video[4][0]).timings


def heard_by_the_filter(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> list[Sight]:
    """What the filter is told from now on, of each frame."""
    assert session.craf is not None
    step = session.craf.step
    heard: list[Sight] = []

    def listening(scores: np.ndarray, sight: Sight) -> CrafResult:
        heard.append(sight)
        return step(scores, sight=sight)

    monkeypatch.setattr(session.craf, "step", listening)
    return heard


def test_the_filter_hears_how_the_picture_moved_and_what_looks_alike(
    segmenter: Segmenter, video: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = segmenter.session()
    session.begin(*video[0])
    heard = heard_by_the_filter(session, monkeypatch)
    session.step(video[0][0])  # the same picture once more
    session.step(np.roll(video[0][0], 8, 1))
    height, width = video[0][1].shape
    still, moved = (sight.motion for sight in heard)
    assert still is not None and moved is not None
    assert still.shape == moved.shape == (2, -(-height // 4), -(-width // 4))
    assert abs(still).max() < 0.1 and abs(np.median(moved[0]) + 8 / 4) < 0.2
    assert [sight.alike for sight in heard] == [[], []]  # a red disc and a blue square
    like = heard[0].likeness
    assert like is not None and like.shape == (2, *still.shape[1:])
    for n, i in enumerate((3, 7)):
        own = video[0][1][2::4, 2::4] == i
        assert np.median(like[n][own]) > 0.95 > like[n][~own].mean() + 0.1


def test_the_filter_hears_of_two_objects_of_a_kind(
    segmenter: Segmenter, video: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, labels = video[0][0].copy(), video[0][1].copy()
    disc = labels == 3
    y, x = np.nonzero(disc)
    labels[labels == 7] = 0
    labels[y + 44, x + 70], frame[y + 44, x + 70] = 5, frame[disc]
    session = segmenter.session()
    session.begin(frame, labels)
    heard = heard_by_the_filter(session, monkeypatch)
    session.step(frame)
    assert [sight.alike for sight in heard] == [[(3, 5)]]


def test_what_another_object_has_hidden_is_found_as_soon_as_it_comes_out(segmenter: Segmenter) -> None:
    frames = clip_with_pillar(30)
    session = segmenter.session()
    session.begin(*frames[0])
    found = [result.labels for result in session.follow(frame for frame, _ in frames[1:])]
    hidden = [t for t, (_, truth) in enumerate(frames) if not (truth == 3).any()]
    assert len(hidden) >= 8
    for t in hidden:
        assert not (found[t - 1] == 3).any(), t
    # First a strip of it, where the other was a frame ago.
    for t in range(hidden[-1] + 3, len(frames)):
        assert iou(found[t - 1] == 3, frames[t][1] == 3) > 0.6, t


def elsewhere(size: tuple[int, int]) -> list[np.ndarray]:
    """Frames of the example clip, which the objects of `clip` are not in."""
    film = open_source(EXAMPLE, end=4)
    return [cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in film.read()]


def test_after_a_cut_nothing_is_an_object_until_one_is_seen_again(
    segmenter: Segmenter, video: Clip, tmp_path: Path
) -> None:
    height, width = video[0][1].shape
    session = segmenter.session()
    session.begin(*video[0])
    assert not session.step(video[1][0]).cut
    for k, frame in enumerate(elsewhere((height, width))):
        result = session.step(frame)
        assert result.cut == (k == 0) and not result.labels.any()
        session.save(tmp_path / "project")  # what was cut from where is kept
        session = Session.load(tmp_path / "project", segmenter)
    # Back to where it was, but from another side: the objects are nowhere near where they were.
    frame, truth = (np.ascontiguousarray(maps[:, ::-1]) for maps in video[0])
    result = session.step(frame)
    assert result.cut
    for i in (3, 7):
        assert iou(result.labels == i, truth == i) > 0.75, i


def test_what_a_correction_leads_to_is_what_both_annotations_at_once_would(
    segmenter: Segmenter, video: Clip
) -> None:
    corrected = segmenter.session()
    corrected.annotate(*video[0])
    wrong = [corrected.step(frame) for frame, _ in video[1:5]]
    shifted = np.roll(video[2][1], 5, 1)
    corrected.correct(2, shifted)
    assert corrected.index == 3 and corrected.kept == (0, 1, 2)
    fresh = segmenter.session()
    fresh.annotate(*video[0])
    fresh.step(video[1][0])
    fresh.annotate(video[2][0], shifted)
    for k in (3, 4):
        one, two = corrected.step(video[k][0]), fresh.step(video[k][0])
        assert same(one, two)
        assert not np.array_equal(one.scores, wrong[k - 1].scores)
    # The annotated frame need not have been segmented at all.
    again = segmenter.session()
    again.annotate(*video[0])
    again.step(video[1][0])
    again.step(video[2][0])
    again.correct(None, shifted)
    assert same(again.step(video[3][0]), corrected_at(segmenter, video, shifted))


def corrected_at(segmenter: Segmenter, video: Clip, labels: np.ndarray) -> Result:
    session = segmenter.session()
    session.annotate(*video[0])
    session.step(video[1][0])
    session.annotate(video[2][0], labels)
    return session.step(video[3][0])


def test_later_frames_use_a_correction_at_once(segmenter: Segmenter, video: Clip) -> None:
    """Told in frame 2 that what was called 3 is the square, the session follows the square."""
    session = segmenter.session()
    session.annotate(video[0][0], only(video[0][1], 3))
    session.step(video[1][0])
    session.annotate(video[2][0], video[2][1] == 7, object_id=3)
    result = session.step(video[3][0])
    square, disc = video[3][1] == 7, video[3][1] == 3
    assert iou(result.labels == 3, square) > iou(result.labels == 3, disc)


def test_all_that_is_marked_in_a_frame_counts(segmenter: Segmenter, video: Clip) -> None:
    frame, truth = video[0]
    session = segmenter.session()
    session.annotate(frame, truth == 3, object_id=3)
    labels = session.annotate(frame, truth == 7)  # a new object: the next number
    assert session.ids == (3, 4) and session.index == 1
    assert np.array_equal(labels, np.where(truth == 7, 4, truth))
    cleared = np.zeros_like(truth)
    cleared[:20] = -1  # no object there
    labels = session.annotate(frame, cleared)
    assert not labels[:20].any() and np.array_equal(labels[20:] == 4, truth[20:] == 7)
    assert set(session.step(video[1][0]).ids) == {3, 4}


def test_objects_that_leave(segmenter: Segmenter, video: Clip, tmp_path: Path) -> None:
    session = segmenter.session()
    session.annotate(*video[0])
    before = session.step(video[1][0])
    session.remove(3)
    assert session.ids == (7,)
    result = session.step(video[2][0])
    assert result.ids == (7,) and set(np.unique(result.labels)) == {0, 7}
    assert iou(result.labels == 7, video[2][1] == 7) > 0.75
    with pytest.raises(InputError, match=r"no object 3; there are \[7\]"):
        session.remove(3)
    # Going back does not bring it back, and its number is not used again.
    session.correct(1, before.labels == 7, object_id=7)
    assert session.ids == (7,) and session.step(video[2][0]).ids == (7,)
    session.remove(7)
    empty = session.step(video[3][0])
    assert empty.ids == () and empty.scores.shape == (0, 96, 144) and not empty.labels.any()
    session.annotate(video[4][0], video[4][1] == 3)
    assert session.ids == (8,)
    assert iou(session.step(video[5][0]).labels == 8, video[5][1] == 3) > 0.75


def test_frames_are_kept_for_a_while(segmenter: Segmenter, video: Clip) -> None:
    session = segmenter.session(keep=2)
    with pytest.raises(InputError, match="frame 0 is not kept.*none yet"):
        session.correct(0, video[0][1])
    session.annotate(*video[0])
    for frame, _ in video[1:4]:
        session.step(frame)
    assert session.kept == (2, 3)
    with pytest.raises(InputError, match="frame 1 is not kept any more; frames that are: 2 to 3"):
        session.correct(1, video[1][1])
    with pytest.raises(InputError, match=r"object_id is one of \[3, 7\]"):
        session.correct(2, video[2][1] == 7)
    assert session.index == 4  # nothing has happened
    with pytest.raises(ValueError, match="keep must be at least 1"):
        segmenter.session(keep=0)


def test_both_directions_from_one_annotation(segmenter: Segmenter, video: Clip) -> None:
    frames = [frame for frame, _ in video]
    session = segmenter.session()
    session.annotate(*video[3])
    back = session.copy()
    forward = list(session.follow(frames[4:]))
    backward = list(back.follow(frames[2::-1]))
    assert len(forward) == 2 and len(backward) == 3
    for result, (_, truth) in zip(forward + backward, video[4:] + video[2::-1], strict=True):
        assert iou(result.labels == 3, truth == 3) > 0.75
    other = segmenter.session()
    other.annotate(*video[3])
    assert same(other.step(frames[2]), backward[0])


def test_a_loaded_session_goes_on_and_can_be_annotated(
    segmenter: Segmenter, video: Clip, tmp_path: Path
) -> None:
    session = segmenter.session(keep=3)
    session.annotate(video[0][0], only(video[0][1], 3))
    session.step(video[1][0])
    session.annotate(video[2][0], only(video[2][1], 7))
    session.save(tmp_path)  # learns what is not learned yet
    loaded = Session.load(tmp_path)  # makes its own segmenter, of the preset in the file
    assert loaded.ids == (3, 7) and loaded.index == 3 and loaded.kept == ()
    assert loaded.segmenter.preset == segmenter.preset
    assert same(loaded.step(video[3][0]), session.step(video[3][0]))
    for s in (loaded, session):
        s.annotate(video[4][0], video[4][1])
    assert same(loaded.step(video[5][0]), session.step(video[5][0]))


def test_a_state_that_was_tampered_with(
    segmenter: Segmenter, video: Clip, tmp_path: Path
) -> None:
    session = segmenter.session()
    session.annotate(*video[0])
    session.save(tmp_path)
    told = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text(told.replace("state-0", "../state-0"))
    with pytest.raises(InputError, match="damaged session state"):
        Session.load(tmp_path, segmenter)
    (tmp_path / "state.json").write_text(told)
    (tmp_path / "state-0.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged session state"):
        Session.load(tmp_path, segmenter)


def test_memory_is_bounded_by_the_objects(segmenter: Segmenter) -> None:
    """However often one annotates, few annotated frames are learned from and kept."""
    video = clip(9, 64, 96)
    session = segmenter.session(keep=2)
    for frame, labels in video:
        session.annotate(frame, labels)
    session.step(video[-1][0][::-1].copy())
    shots = session._state().shots
    assert [shot.index for shot in shots] == [0, 7, 8]
