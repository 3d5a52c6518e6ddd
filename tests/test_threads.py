from __future__ import annotations

import threading

import pytest

from segspn.threads import do_all


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_job_is_done_once(threads: int) -> None:
    done: list[int] = []
    do_all([lambda k=k: done.append(k) for k in range(50)], threads)
    assert sorted(done) == list(range(50))


def test_a_job_that_fails_is_told_of() -> None:
    met = threading.Barrier(2, timeout=10)

    def fail() -> None:
        met.wait()  # one of the two jobs is the helper's
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        do_all([fail, fail], 2)
