from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import pytest
import torch

from segspn import threads as module
from segspn.threads import do_all, side_by_side


@pytest.fixture(params=["torch's", "python's"])
def whose(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With torch's threads, and as it is where they cannot be had."""
    if request.param == "python's":
        monkeypatch.setattr(module, "_openmp", lambda: None)
    elif module._openmp() is None:
        pytest.skip("torch has no threads of OpenMP here")
    name: str = request.param
    return name


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_job_is_done_once(threads: int, whose: str) -> None:
    done: list[int] = []
    do_all([lambda k=k: done.append(k) for k in range(50)], threads)
    assert sorted(done) == list(range(50))


def test_a_job_that_fails_is_told_of(whose: str) -> None:
    met = threading.Barrier(2, timeout=10)

    def fail() -> None:
        met.wait()  # one of the two jobs is the helper's
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        do_all([fail, fail], 2)


def test_jobs_run_at_the_same_time(whose: str) -> None:
    met = threading.Barrier(2, timeout=10)
    do_all([met.wait, met.wait], 2)  # which raises if they do not meet


def test_jobs_within_jobs(whose: str) -> None:
    done: list[int] = []
    inner = [lambda k=k: done.append(k) for k in range(3)]
    do_all([lambda: do_all(inner, 2)] * 4, 2)
    assert sorted(done) == sorted(4 * [0, 1, 2])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_is_raised_whenever_it_comes(whose: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    kill = partial(os.kill, os.getpid(), signal.SIGUSR1)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for _ in range(20):
            with pytest.raises(KeyboardInterrupt):
                do_all([kill, partial(time.sleep, 0.002)], 2)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own(whose: str) -> None:
    do_all([lambda: None] * 2, 2)
    child = os.fork()
    if not child:
        done: list[int] = []
        do_all([lambda: done.append(1)] * 4, 2)
        os._exit(len(done))
    for _ in range(1000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child waits for threads that it does not have")
    assert os.waitstatus_to_exitcode(status) == 4


def test_many_threads_are_pythons() -> None:
    torchs = module._torchs_threads(module._MOST + 1)
    done: list[int] = []
    do_all([lambda: done.append(1)] * 4, module._MOST + 1)
    assert torchs is None and len(done) == 4


@pytest.mark.parametrize("count", [1, 3])
def test_torch_does_side_by_side_what_it_does_alone(count: int, whose: str) -> None:
    maps = [torch.randn(1, 8, 30, 40, generator=torch.Generator().manual_seed(k)) for k in range(count)]
    net = torch.nn.Conv2d(8, 8, 3).requires_grad_(False)
    found: dict[int, torch.Tensor] = {}
    side_by_side([lambda k=k: found.update({k: net(maps[k])}) for k in range(count)], "cpu")
    for k, each in enumerate(maps):
        torch.testing.assert_close(found[k], net(each))


def test_side_by_side_gradients_are_as_the_caller_has_them(whose: str) -> None:
    modes: list[tuple[bool, bool]] = []

    def job() -> None:
        time.sleep(0.01)
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    side_by_side([job] * 4, "cpu")
    with torch.no_grad():
        side_by_side([job] * 4, "cpu")
    with torch.inference_mode():
        side_by_side([job] * 4, "cpu")
    assert modes == 4 * [(True, False)] + 4 * [(False, False)] + 4 * [(False, True)]


def test_an_interrupt_before_the_first_job_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """ctypes prints an exception that comes as the caller's part begins, and goes on."""

    def region(body: object, data: object, threads: int, flags: int) -> None:
        others = threading.Thread(target=body, args=(data,))
        others.start()
        others.join()

    monkeypatch.setattr(module, "_openmp", lambda: region)
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        do_all([lambda: done.append(1)] * 2, 2)
    assert done == [1, 1]
