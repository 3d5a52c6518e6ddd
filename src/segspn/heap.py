"""Memory, kept fit for a stream: the C library's heap, and what oneDNN keeps.

The largest tensors of a frame are freed when the frame is done. By itself glibc would hand their memory
back at once and ask for it again, page by page, in the next frame: up to a sixth of its time. What is
free stays, until the process has grown by a fiftieth; then all that is free anywhere is given back.
What is kept for many frames lies apart: between what comes and goes it would leave holes of ever other
sizes. Its memory is handed on, and so is that of results that the heap does not keep: the next frame has
arrays of the same sizes, and new pages cost more than what fills them.

OneDNN keeps the kernel that it has compiled for each size of each layer, a third of a megabyte, and by
itself the last 1024 of them. A frame needs about a hundred at each size it is looked at, and seven for
each size of window: what ten objects need is reached within two hundred frames, and does not grow then.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:  # CRAF keeps arrays apart too, and does without torch
    from torch import Tensor

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_FREE = 256 << 20
_LARGEST_IN_HEAP = 32 << 20  # glibc takes no more
_LARGEST_BY_ITSELF = 1 << 20  # what the heap may well give back while it is not told to keep it
_KERNELS = 176  # for each size that frames are looked at
_PIECE = 1 << 16  # bytes, of which what lies apart takes whole multiples
_SPARE = 256 << 20  # bytes at most that wait to be handed on
_SETTLING = 5  # frames after giving back in which memory comes to what they need
_GROWTH = 1.02  # beyond that, memory is given back again
_TURN = 3  # frames after which what nobody has asked for is no more handed on
_STATUS = "/proc/self/statm"


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or not os.path.exists(_STATUS):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


_library = _glibc()
_largest = _LARGEST_BY_ITSELF  # results beyond are not left to the heap


def limit_kernels(views: int) -> None:
    """Let oneDNN keep fewer kernels, for so many sizes of each frame, unless the user says how many;
    before the first net runs."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(views * _KERNELS))


def keep_free_memory() -> None:
    """Let the heap keep what a frame frees for the next one, where the C library can."""
    global _largest
    if _library is not None:
        _largest = _LARGEST_IN_HEAP
        _library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
        _library.mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)


def give_back() -> None:
    """Return to the system what is free, where the C library can, and what has waited to be handed on
    since the last call."""
    _growth.begin()
    _spare.drop_old()
    if _library is not None:
        _library.malloc_trim(0)


def tidy() -> None:
    """To be called after every frame: gives back what is free when that is worth its price."""
    if _growth.seen(_resident()):
        give_back()
    elif _growth.frames % _TURN == 0:
        _spare.drop_old()


def _resident() -> int:
    """Bytes of memory that the process holds; 0 where the C library cannot give any back."""
    if _library is None:
        return 0
    with open(_STATUS, "rb") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


class _Growth:
    """How far memory has grown beyond what the frames after the last giving back needed."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._most = self.frames = 0

    def seen(self, resident: int) -> bool:
        """A frame has come to an end; whether it is time to give back."""
        self.frames += 1
        if self.frames <= _SETTLING:
            self._most = max(self._most, resident)
        return resident > _GROWTH * self._most


_growth = _Growth()


def apart(tensor: Tensor) -> Tensor:
    """A copy in memory of its own, outside the heap; the tensor itself where there is no need."""
    if _library is None or tensor.device.type != "cpu" or tensor.requires_grad:
        return tensor
    import torch

    return torch.from_numpy(array_apart(tensor.numpy()))


def zeros_apart(size: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of a dtype and device, in memory of their own where there is need."""
    if _library is None or like.device.type != "cpu" or not math.prod(size):
        return like.new_zeros(size)
    import torch

    memory = _memory(math.prod(size) * like.element_size())
    return torch.from_numpy(memory).view(like.dtype).view(size).zero_()


def array_apart(array: np.ndarray) -> np.ndarray:
    """The same of an array, but always a copy."""
    if _library is None or not array.size:
        return array.copy()
    out = _memory(array.nbytes).view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array with anything in it, as `np.empty`; for results that the heap may not keep."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if _library is None or size <= _largest:
        return np.empty(shape, dtype)
    return _memory(size).view(dtype).reshape(shape)


def copy(tensor: Tensor) -> Tensor:
    """A contiguous copy, as `Tensor.clone`; for what the heap may not keep."""
    import torch

    if tensor.device.type != "cpu" or tensor.requires_grad:
        return tensor.clone(memory_format=torch.contiguous_format)
    array = tensor.numpy()
    out = empty(array.shape, array.dtype)
    out[...] = array
    return torch.from_numpy(out)


def _memory(size: int) -> np.ndarray:
    """``size`` bytes apart, uint8, with anything in them."""
    whole = -(-size // _PIECE) * _PIECE
    return np.asarray(_Lent(_spare.take(whole) or mmap.mmap(-1, whole, access=mmap.ACCESS_COPY)))[:size]


class _Spare:
    """Memory that nobody holds any more; the longest unused goes when there is too much."""

    def __init__(self) -> None:
        self._all: list[mmap.mmap] = []
        self._old = 0  # of these how many, from the first, have waited for long
        self._lock = threading.RLock()  # memory may come back in the midst of `take`

    def take(self, size: int) -> mmap.mmap | None:
        with self._lock:
            for k in range(len(self._all) - 1, -1, -1):
                if len(self._all[k]) == size:
                    self._old -= k < self._old
                    return self._all.pop(k)
        return None

    def put(self, memory: mmap.mmap) -> None:
        with self._lock:
            self._all.append(memory)
            while sum(len(one) for one in self._all) > _SPARE:
                self._all.pop(0)
                self._old = max(0, self._old - 1)

    def drop_old(self) -> None:
        """Let go of what was there at the last call."""
        with self._lock:
            del self._all[: self._old]
            self._old = len(self._all)


_spare = _Spare()


class _Lent:
    """Memory as numpy takes it; handed on when the last array over it is gone."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        view = np.frombuffer(memory, np.uint8)
        self.__array_interface__ = {**view.__array_interface__, "data": (view.ctypes.data, False)}

    def __del__(self, put: Callable[[mmap.mmap], None] = _spare.put) -> None:
        put(self._memory)
