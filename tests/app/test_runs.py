from __future__ import annotations

import time

import numpy as np
import pytest
from pages import COUNT


def columns(mask: np.ndarray) -> list[int]:
    return np.nonzero(mask.any(axis=0))[0].tolist()


def wait(page, done: int) -> None:
    for _ in range(1000):
        if page.state()["job"]["done"] >= done:
            return
        time.sleep(0.005)
    raise AssertionError("no progress")


class OneByOne:
    """A gate that lets through so many steps."""

    def __init__(self, count: int) -> None:
        self.count = count

    def wait(self, timeout: float) -> None:
        end = time.monotonic() + min(timeout, 0.3)  # a pause may come a step too late
        while self.count <= 0 and time.monotonic() < end:
            time.sleep(0.002)
        self.count -= 1


def test_forward_backward_both(page):
    page.box(5, 10, 10, 20, 20)
    page.post("run", frame=5, direction="forward")
    assert page.finish()["phase"] == "done"
    assert columns(page.mask(11)) == list(range(16, 26))
    assert not page.mask(4).any()
    page.post("run", frame=5, direction="backward")
    job = page.finish()
    assert (job["done"], job["total"], job["frame"]) == (5, 5, 0)
    assert columns(page.mask(0)) == list(range(15, 25))
    page.post("run", frame=5, direction="both")
    assert page.finish()["done"] == COUNT - 1
    assert sorted(map(int, page.state()["frames"])) == list(range(COUNT))


@pytest.mark.parametrize(("start", "direction"), [(0, "forward"), (11, "backward"), (6, "both")])
def test_the_first_frame_of_a_scene_is_told_whichever_way_a_run_goes(page, engine, start, direction):
    engine.edge = 65.0  # frame 7 is the first brighter one
    page.box(start, 10, 10, 20, 20)
    page.post("run", frame=start, direction=direction)
    page.finish()
    assert [f for f, facts in page.state()["frames"].items() if facts["cut"]] == ["7"]
    engine.edge = 256.0
    page.post("run", frame=start, direction=direction)
    page.finish()
    assert not any(facts["cut"] for facts in page.state()["frames"].values())


def test_nothing_to_run_from(page):
    answer = page.post("run", frame=3, direction="forward")
    assert answer.status_code == 422 and "nothing is marked in frame 3" in answer.json()["error"]
    assert page.post("run", frame=0).status_code == 422
    assert page.post("run", frame=0, direction="up").status_code == 422


def test_news_tells_what_is_new(page):
    page.box(0, 10, 10, 20, 20)
    before = page.state()["cursor"]
    page.post("run", frame=0, direction="forward")
    page.finish()
    told = page.get(f"news?after={before}").json()
    assert set(map(int, told["frames"])) == set(range(1, COUNT))
    assert told["frames"]["4"]["objects"]["1"] == pytest.approx([0.0326, 0.95], abs=2e-3)
    assert page.get(f"news?after={told['cursor']}").json()["frames"] == {}


def test_pause_correct_continue(page, engine):
    engine.gate = OneByOne(3)
    page.box(0, 10, 10, 20, 20)
    page.post("run", frame=0, direction="forward")
    wait(page, 3)
    engine.gate.count = 1  # the step that is under way ends
    told = page.post("pause").json()
    assert told["job"]["phase"] == "paused" and told["unfinished"]
    at = told["job"]["frame"]
    page.box(at, 30, 10, 40, 20)
    engine.gate.count = 99
    page.post("run", frame=at)
    assert page.finish()["phase"] == "done"
    assert columns(page.mask(at + 2)) == list(range(32, 42))
    assert len(engine.trackers) == 1, "the tracker goes on"
    assert engine.trackers[0].lessons == [{1: 100}, {1: 100}]
    assert columns(page.mask(1)) == list(range(11, 21)), "frames before stay"


def test_a_correction_further_back_starts_there_again(page, engine):
    engine.gate = OneByOne(5)
    page.box(0, 10, 10, 20, 20)
    page.post("run", frame=0, direction="forward")
    wait(page, 5)
    engine.gate.count = 1
    page.post("pause")
    page.box(2, 30, 10, 40, 20)
    engine.gate.count = 99
    page.post("run", frame=2)
    page.finish()
    assert columns(page.mask(3)) == list(range(31, 41))
    assert columns(page.mask(11)) == list(range(39, 49))
    # A new tracker, which learns from the other drawn frame too, and from the nearest last.
    assert [len(tracker.lessons) for tracker in engine.trackers] == [1, 2]


def test_drawn_frames_on_the_way_are_kept_and_learned_from(page, engine):
    page.box(0, 10, 10, 20, 20)
    page.box(6, 40, 10, 50, 20)
    page.post("run", frame=0, direction="forward")
    page.finish()
    assert columns(page.mask(5)) == list(range(15, 25))
    assert columns(page.mask(6)) == list(range(40, 50))
    assert columns(page.mask(7)) == list(range(41, 51))


def test_an_object_added_later_leaves_the_first_as_it_was(page):
    page.box(0, 10, 10, 20, 20)
    page.post("run", frame=0, direction="forward")
    page.finish()
    page.post("objects", name="late")
    page.box(4, 10, 30, 20, 40, 2)
    page.post("run", frame=4, direction="both")
    page.finish()
    mask = page.mask(8)
    assert columns(mask == 1) == list(range(18, 28)) and columns(mask == 2) == list(range(14, 24))
    first = page.mask(0)
    assert columns(first == 1) == list(range(10, 20)), "as drawn"
    assert columns(first == 2) == list(range(14, 24)), "as followed back"


def test_changes_wait_for_a_pause(page, engine):
    engine.gate = OneByOne(1)
    page.box(0, 10, 10, 20, 20)
    page.post("run", frame=0, direction="forward")
    for answer in (
        page.box(0, 0, 0, 9, 9),
        page.post("undo"),
        page.post("export", save=["labels"]),
        page.post("run", frame=0, direction="both"),
        page.upload("x.mp4", b""),
    ):
        assert answer.status_code in (409, 422)
    assert page.box(0, 0, 0, 9, 9).json()["error"] == "pause the run first"
    engine.gate.count = 99
    page.post("cancel")


def test_cancel_forgets_the_rest_and_keeps_what_is_done(page, engine):
    engine.gate = OneByOne(3)
    page.box(5, 10, 10, 20, 20)
    page.post("run", frame=5, direction="both")
    wait(page, 3)
    engine.gate.count = 1
    told = page.post("cancel").json()
    assert told["job"] is None and not told["unfinished"]
    assert page.mask(8).any() and not page.mask(4).any()
    assert page.post("run", frame=5).status_code == 422


def test_what_goes_wrong_in_a_run_is_told(page, engine, monkeypatch):
    def fail(frame):
        raise RuntimeError("no more memory")

    page.box(0, 10, 10, 20, 20)
    tracker = engine.tracker()
    monkeypatch.setattr(engine, "tracker", lambda: tracker)
    monkeypatch.setattr(tracker, "step", fail)
    monkeypatch.setattr("threading.excepthook", lambda told: None)
    page.post("run", frame=0, direction="forward")
    job = page.finish()
    assert job["phase"] == "failed" and "no more memory" in job["message"]
    assert page.box(0, 0, 0, 9, 9).status_code == 200, "the page goes on"
