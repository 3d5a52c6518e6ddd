"""The newest frame only, and sources that come at their own speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from video_clips import make_video

from segspn.errors import InputError
from segspn.video import Newest, live_frames, paced


def numbered(k: int) -> np.ndarray:
    return np.full((4, 6, 3), k, np.uint8)


def test_a_slow_consumer_gets_the_newest_frame_and_the_last() -> None:
    gates = [threading.Event() for _ in range(3)]

    def source() -> Iterator[np.ndarray]:
        yield numbered(0)
        gates[0].wait(10)
        yield from (numbered(k) for k in (1, 2, 3))
        gates[1].set()
        gates[2].wait(10)
        yield numbered(4)

    with Newest(source()) as frames:
        assert next(frames)[0, 0, 0] == 0
        gates[0].set()
        assert gates[1].wait(10)  # all three have come while we were busy
        assert next(frames)[0, 0, 0] == 3 and frames.dropped == 2
        gates[2].set()
        assert [f[0, 0, 0] for f in frames] == [4]
        assert frames.dropped == 2


def test_trouble_in_the_source_is_raised_after_what_came_before() -> None:
    def source() -> Iterator[np.ndarray]:
        yield numbered(7)
        raise InputError("the camera is gone")

    frames = Newest(source())
    assert next(frames)[0, 0, 0] == 7
    with pytest.raises(InputError, match="the camera is gone"):
        next(frames)


def test_a_closed_source_is_read_no_further() -> None:
    closed = threading.Event()
    made = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal made
        try:
            while True:
                made += 1
                yield numbered(made % 200)
                time.sleep(0.001)
        finally:
            closed.set()

    with Newest(source()) as frames:
        next(frames)
    assert closed.wait(10)
    assert made < 5000 and list(frames) == []


def test_files_play_at_their_own_speed(tmp_path, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert len(list(paced(iter([numbered(k) for k in range(3)]), fps=10))) == 3
    assert waits == pytest.approx([0, 0.1, 0.2])
    frames = list(live_frames(make_video(tmp_path / "clip.mp4", count=4)))
    assert len(frames) == 4 and frames[0].shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("rtsp://127.0.0.1:1/none", "rtsp://127.0.0.1:1/none cannot be opened"),
        ("http://127.0.0.1:1/none.mjpg", "none.mjpg cannot be opened"),
        ("99", "camera 99 cannot be opened"),
        ("nowhere.mp4", "nowhere.mp4 does not exist"),
    ],
)
def test_sources_that_are_not_there(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        live_frames(spec)
