from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from segspn.video import prefetch


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "segspn-prefetch"]


def test_all_items_in_order() -> None:
    assert list(prefetch(iter(range(100)), depth=3)) == list(range(100))
    assert list(prefetch(iter(()))) == []
    assert not threads()


def test_it_runs_ahead_by_depth_and_no_further() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    ahead = prefetch(numbers(), depth=2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1, 2]
    ahead.close()


def test_stopping_early_ends_the_thread_and_closes_the_iterator() -> None:
    closed_in: list[str] = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed_in.append(threading.current_thread().name)

    for _ in prefetch(endless()):
        assert threads()
        break
    assert not threads()
    assert closed_in == ["segspn-prefetch"]


def test_exceptions_come_after_the_items_before_them() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    got: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in prefetch(failing()):
            got.append(item)
    assert got == [1, 2]
    assert not threads()


def test_depth_must_be_positive() -> None:
    with pytest.raises(ValueError, match="depth"):
        prefetch(iter([1]), depth=0)
