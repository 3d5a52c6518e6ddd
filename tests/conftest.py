from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch


def pytest_configure() -> None:
    """A job in the background of a script starts with Ctrl-C ignored; some tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For nets and frames so small that waking threads costs more than it wins, on a busy machine
    many times more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
