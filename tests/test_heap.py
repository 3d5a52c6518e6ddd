from __future__ import annotations

import os
import resource
import sys

import numpy as np
import pytest
import torch

from segspn import heap


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux" or heap._library is None, reason="needs glibc")
def test_holes_in_the_heap_are_given_back() -> None:
    # Small enough to lie in the heap; one in a hundred stays and keeps the heap from shrinking.
    blocks = [np.ones(8000, np.uint8) for _ in range(20_000)]
    kept = blocks[::100]
    full = resident()
    del blocks
    heap.give_back()
    assert resident() < full - 100e6 and len(kept) == 200


@pytest.mark.skipif(sys.platform != "linux" or heap._library is None, reason="needs glibc")
def test_what_a_frame_frees_is_there_for_the_next() -> None:
    heap.keep_free_memory()
    faults = []
    for _ in range(10):  # holes of the tests before may have to be filled first
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        maps = [torch.ones(5_000_000) for _ in range(4)]  # 80 MB: 20,000 pages
        del maps
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults[1:]) < 2000


def test_the_number_of_kernels_is_the_users_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "7")
    heap.limit_kernels(2)
    assert os.environ[name] == "7"
    monkeypatch.delenv(name)
    heap.limit_kernels(2)
    assert os.environ[name] == "352"


def test_a_copy_apart_is_a_copy() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    tensor = torch.from_numpy(array).T
    held, same = heap.apart(tensor), heap.array_apart(array)
    assert torch.equal(held, tensor) and np.array_equal(same, array) and same.dtype == np.int32
    same[0, 0] = held[0, 0] = 7  # both can be written to
    assert array[0, 0] == 0
    assert heap.array_apart(array[:0]).shape == (0, 4)


def test_zeros_apart_are_zeros() -> None:
    like = torch.ones(1)
    zeros = heap.zeros_apart((2, 3), like)
    assert zeros.dtype == like.dtype and torch.equal(zeros, torch.zeros(2, 3))
    zeros += 1  # they can be written to
    assert heap.zeros_apart((0, 3), like).shape == (0, 3)


def test_where_the_library_cannot_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_library", None)
    heap.keep_free_memory()
    heap.give_back()
    tensor, array = torch.ones(2), np.ones(2)
    assert heap.apart(tensor) is tensor
    same = heap.array_apart(array)
    assert np.array_equal(same, array) and same is not array
    assert torch.equal(heap.zeros_apart((2,), tensor), torch.zeros(2))


@pytest.mark.skipif(heap._library is None, reason="needs glibc")
def test_memory_is_handed_on_when_the_last_array_is_gone() -> None:
    array = np.arange(300_000)
    first = heap.array_apart(array)
    place, part = first.ctypes.data, torch.from_numpy(first[5:7])
    del first
    other = heap.array_apart(array)  # `part` still holds what it is of
    assert other.ctypes.data != place and part.tolist() == [5, 6]
    del part
    again = heap.zeros_apart((300_000,), torch.ones(1, dtype=torch.float64))
    assert again.data_ptr() == place and not again.any()


@pytest.mark.skipif(sys.platform != "linux" or heap._library is None, reason="needs glibc")
def test_what_nobody_asks_for_is_given_back() -> None:
    heap.give_back()
    heap.give_back()
    array = np.ones(20_000_000, np.uint8)
    used = heap.array_apart(array)
    other = heap.array_apart(array)
    full = resident()
    del used, other
    for _ in range(3):  # one of the two goes from frame to frame
        used = heap.array_apart(array)
        del used
        heap.give_back()
    assert full - 30e6 < resident() < full - 15e6
    heap.give_back()
    heap.give_back()
    assert resident() < full - 35e6


@pytest.mark.skipif(sys.platform != "linux" or heap._library is None, reason="needs glibc")
def test_memory_is_given_back_once_the_process_has_grown() -> None:
    def holes(count: int) -> list[np.ndarray]:
        blocks = [np.ones(8000, np.uint8) for _ in range(count)]
        return blocks[::100]

    heap.give_back()
    kept = []
    for _ in range(20):  # frames that need what the ones before them did
        kept = holes(2000)
        heap.tidy()
    steady = resident()
    kept += holes(30_000)  # 240 MB
    assert resident() > steady + 150e6
    heap.tidy()
    assert resident() < steady + 30e6 and kept


def test_growth_is_measured_from_what_frames_need_by_themselves() -> None:
    growth = heap._Growth()
    for resident in (500, 900, 1000, 990, 1000, 1010, 1019):
        assert not growth.seen(resident)
    assert growth.seen(1021)
    growth.begin()
    assert not any(growth.seen(resident) for resident in (1200, 1300, 1310))


@pytest.mark.skipif(sys.platform != "linux" or heap._library is None, reason="needs glibc")
def test_what_waits_to_be_handed_on_is_bounded() -> None:
    held = [heap.array_apart(np.ones(1_000_000 + 70_000 * k, np.uint8)) for k in range(100)]
    full = resident()
    del held  # 450 MB, of which 256 may wait
    assert resident() < full - 150e6


@pytest.mark.skipif(heap._library is None, reason="needs glibc")
def test_what_is_too_large_for_the_heap_lies_where_the_last_one_did() -> None:
    shape = (3, 2000, 2000)  # 48 MB
    first = heap.empty(shape, np.float32)
    first[:] = 7
    place = first.ctypes.data
    del first
    second = heap.empty(shape, np.float32)
    assert second.ctypes.data == place and second.shape == shape and second.dtype == np.float32
    same = heap.copy(torch.from_numpy(second))  # while that is held
    assert same.data_ptr() != place and torch.equal(same, torch.from_numpy(second))
    del second
    assert heap.empty(shape, np.float32).ctypes.data == place


def test_a_copy_is_contiguous_and_as_large_as_it_looks() -> None:
    part = torch.arange(12.0).view(3, 4).T[1:3]
    same = heap.copy(part)
    assert torch.equal(same, part) and same.is_contiguous()
    same.zero_()
    assert part.all()
    learning = torch.ones(2, requires_grad=True)
    assert heap.copy(learning).requires_grad
    assert heap.empty((0, 3), np.int32).shape == (0, 3)
