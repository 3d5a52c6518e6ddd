from __future__ import annotations

import sys

import numpy as np
import pytest

from segspn.session import heap


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux" or heap._trim is None, reason="needs glibc")
def test_holes_in_the_heap_are_given_back() -> None:
    # Small enough to lie in the heap; one in a hundred stays and keeps the heap from shrinking.
    blocks = [np.ones(8000, np.uint8) for _ in range(20_000)]
    kept = blocks[::100]
    full = resident()
    del blocks
    heap.give_back()
    assert resident() < full - 100e6 and len(kept) == 200


def test_where_the_library_cannot_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_trim", None)
    heap.give_back()
