"""The propagation on the CPU, forward and backward, for float32 and float64: the work and threads.

- A job is a block of maps in all directions; with few maps, one vertical and one horizontal
  direction (two jobs, equal work), or a single direction when there are threads for it. These write
  maps of their own, merged at the end while still in cache. The order of the merge depends on
  shapes alone, so the result does not depend on the number of threads.
- Jobs run on Python threads (:mod:`segspn.threads`), and the caller works through the same queue.

Importing this module imports numba; :mod:`segspn.spn.operator` does so at the first call.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from segspn.heap import empty
from segspn.spn.kernels import (
    ALL,
    MAX,
    MEAN,
    TOGETHER,
    backward_direction,
    finish,
    forward_direction,
    winners,
)
from segspn.spn.scan_line import ALIGNED
from segspn.threads import do_all

ROWS = 16  # lines of a tile
# The columns of one are reached through as many pages of memory as it has rows: four times a cache line
# leaves a quarter of the misses in the tables of pages (and columns seldom start at a cache line); more
# would not fit the second-level cache.
COLUMNS = 64
BLOCK = 16  # maps propagated together at most, for each tile of gates
BLOCK_BYTES = 8 << 20  # and in the backward, which has far more of them at hand
SMALL = 1 << 14  # values below which waking another thread costs more than it saves
MODES = {"max": MAX, "mean": MEAN, "all": ALL}


def forward(x: Any, gates: Any, merge: str, normalise: bool) -> Any:
    """One round. Arrays x (B, N, H, W) and gates (B, 4, 3, H, W), C-contiguous, float32 or float64,
    nothing empty; returns (B, N, H, W), or (B, 4, N, H, W) for ``all``."""
    mode = MODES[merge]
    batch, count, height, width = x.shape
    out = empty((batch, 4 if mode == ALL else 1, count, height, width), x.dtype)
    threads = _threads(x)
    # Enough maps: all directions in one job, into one map. (Not a matter of threads: the order in
    # which means are added depends on it.) Else two or four jobs, whose order is the same.
    parts = 1 if batch * count >= 4 else 2 if threads < 4 else 4
    block = min(count, BLOCK, -(-batch * count // threads))
    jobs: list[Callable[[], None]] = []
    for b in range(batch):
        for n0 in range(0, count, block):
            unit = slice(n0, n0 + block)
            if mode == ALL:
                for d in range(4):
                    one = partial(_forward_part, x[b, unit], gates[b], out[b, d, unit], d, 4)
                    jobs.append(partial(one, mode, normalise))
            else:
                jobs += _Unit(x[b, unit], gates[b], out[b, 0, unit], parts, mode, normalise).jobs()
    do_all(jobs, threads)
    return out if mode == ALL else out[:, 0]


class _Unit:
    """A block of maps in `parts` jobs; the one that ends last merges."""

    def __init__(self, x: Any, gates: Any, out: Any, parts: int, mode: int, normalise: bool):
        self.x, self.gates, self.out = x, gates, out
        self.parts, self.mode, self.normalise = parts, mode, normalise
        self.lock, self.left = threading.Lock(), parts
        self.maps: Any = None

    def jobs(self) -> list[Callable[[], None]]:
        return [partial(self._job, p) for p in range(self.parts)]

    def _job(self, p: int) -> None:
        with self.lock:
            if self.maps is None:  # not before: only the units at work need them
                self.maps = empty((self.parts - 1, *self.x.shape), self.x.dtype)
        target = self.out if p == 0 else self.maps[p - 1]
        _forward_part(self.x, self.gates, target, p, self.parts, self.mode, self.normalise)
        with self.lock:
            self.left -= 1
            last = self.left == 0
        if last:
            finish(self.out, self.maps, self.mode)
            self.maps = None


def _forward_part(
    x: Any, gates: Any, target: Any, p: int, parts: int, mode: int, normalise: bool
) -> None:
    """The directions of part p, merged into `target`."""
    # the vertical direction first: it writes the map without a detour
    for d in range(p + 4 - parts, -1, -parts):
        start = d + parts > 3
        tiles = _scratch(x, 4, d)
        _, most, length = tiles.shape
        h = _aligned((TOGETHER, most + 2, length), x.dtype)
        carry = np.empty((len(x), length), x.dtype)
        forward_direction(
            x, gates[d], target, d, start, mode, normalise, tiles[:3], tiles[3], h, carry
        )


def _threads(x: Any) -> int:
    return 1 if x.size < SMALL else torch.get_num_threads()


def _scratch(x: Any, tiles: int, d: int) -> Any:
    """Tiles (tiles, lines, length) for direction d of the maps x (N, H, W)."""
    horizontal = d < 2
    length = x.shape[-2 if horizontal else -1] // 16 * 16 + 16
    return _aligned((tiles, COLUMNS if horizontal else ROWS, length), x.dtype)


def _aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array whose lines, of whole cache lines, begin at cache lines."""
    count = math.prod(shape) * dtype.itemsize
    whole = np.empty(count + ALIGNED, np.uint8)
    first = -whole.ctypes.data % ALIGNED
    return whole[first : first + count].view(dtype).reshape(shape)


def backward(grad: Any, x: Any, gates: Any, merge: str, normalise: bool) -> tuple[Any, Any]:
    """The gradients of x and gates, given that of :func:`forward`'s result; same requirements.

    For a block of maps of some batch entries at a time, the four directions are computed again (to
    keep them from the forward would take four times the memory of x), then scanned back.
    """
    mode = MODES[merge]
    batch, count, height, width = x.shape
    if mode != ALL:
        grad = grad[:, None]
    dx, dgates = empty(x.shape, x.dtype), empty(gates.shape, gates.dtype)
    threads, size = _threads(x), height * width * x.itemsize
    parts = 4 if threads >= 4 and batch * 2 < threads else 2
    block = min(count, max(4, BLOCK_BYTES // size))
    group = max(1, threads // parts, BLOCK_BYTES // (block * size))
    for b0 in range(0, batch, group):
        for n0 in range(0, count, block):
            unit = slice(n0, n0 + block)
            works = [
                _Back(
                    grad[b, :, unit],
                    x[b, unit],
                    gates[b],
                    dx[b, unit],
                    dgates[b],
                    parts,
                    mode,
                    normalise,
                    n0 > 0,
                )
                for b in range(b0, min(batch, b0 + group))
            ]
            do_all([partial(w.ahead, d) for w in works for d in range(4)], threads)
            if mode == MAX:
                do_all([w.choose for w in works], threads)
            do_all([partial(w.back, p) for w in works for p in range(parts)], threads)
            do_all([w.finish for w in works], threads)
    return dx, dgates


class _Back:
    """The backward of one block of maps, as jobs."""

    def __init__(
        self,
        grad: Any,
        x: Any,
        gates: Any,
        dx: Any,
        dgates: Any,
        parts: int,
        mode: int,
        normalise: bool,
        add: bool,
    ):
        self.grad, self.x, self.gates, self.dx, self.dgates = grad, x, gates, dx, dgates
        self.parts, self.mode, self.normalise, self.add = parts, mode, normalise, add
        self.results = np.empty((4, *x.shape), x.dtype)
        self.maps = np.empty((parts - 1, *x.shape), x.dtype)
        self.winners = np.empty(x.shape, x.dtype)

    def ahead(self, d: int) -> None:
        _forward_part(self.x, self.gates, self.results[d], d, 4, self.mode, self.normalise)

    def choose(self) -> None:
        winners(self.winners, self.results)

    def back(self, p: int) -> None:
        dx = self.dx if p == 0 else self.maps[p - 1]
        for d in range(p + 4 - self.parts, -1, -self.parts):
            tiles = _scratch(self.x, 16, d)
            carry = np.empty((len(self.x), tiles.shape[2]), self.x.dtype)
            backward_direction(
                self.grad[d if self.mode == ALL else 0],
                self.x,
                self.results[d],
                self.gates[d],
                self.winners,
                dx,
                self.dgates[d],
                d,
                d + self.parts > 3,
                self.add,
                self.mode,
                self.normalise,
                tiles,
                carry,
            )

    def finish(self) -> None:
        finish(self.dx, self.maps, ALL)
