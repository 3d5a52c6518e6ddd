"""The propagation on the CPU, forward and backward, for float32 and float64: the work and threads.

The work is a few phases of independent jobs. Which jobs there are depends on the shapes, and the
order in which results are added is fixed, so that the result does not depend on the threads.

Jobs run on Python threads (the kernels release the GIL), and the caller works through the same
queue. numba's own parallel loops spin at their barriers: fine on an idle machine, but beside torch's
threads or another process they were measured to be up to a hundred times slower.

Importing this module imports numba; :mod:`segspn.spn.operator` does so at the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from segspn.spn.kernels import ADD, COPY, MAX, scan, scan_back, share
from segspn.spn.kernels import transpose as transpose_rows

BLOCK = 2  # maps that share a pass over the gates; with more of them the cache holds less of each
GROUP_BYTES = 64 << 20  # gates of the batch entries that are worked on together
SMALL = 1 << 14  # values below which waking another thread costs more than it saves
PIECE = 256  # columns that one job joins; a multiple of the squares that are transposed
STEPS = (1, -1, 1, -1)

Job = Callable[[], Any]


def forward(x: Any, gates: Any, merge: str, normalise: bool) -> Any:
    """One round. Arrays x (B, N, H, W) and gates (B, 4, 3, H, W), C-contiguous, float32 or float64,
    nothing empty; returns (B, N, H, W), or (B, 4, N, H, W) for ``all``."""
    batch, count, height, width = x.shape
    shape = (batch, 4, count, height, width) if merge == "all" else x.shape
    out = np.empty(shape, x.dtype)
    threads = _threads(x)
    for entries in _groups(gates):
        turned = np.empty((len(entries), 2, 3, width, height), x.dtype)
        units = [
            _Forward(x[b, block], gates[b], turned[i], _of(out, b, block, merge), merge, normalise)
            for i, b in enumerate(entries)
            for block in _blocks(count)
        ]
        first = _turn_jobs(gates[entries.start : entries.stop, :2], turned, COPY)
        if len(units) >= threads:
            _run(first, threads)
            _run([unit.whole for unit in units], threads)
        else:  # the same additions, in pieces
            _run([unit.vertical for unit in units] + first + [unit.turn for unit in units], threads)
            _run([partial(unit.sideways, d) for unit in units for d in (0, 1)], threads)
            _run([partial(unit.join, c) for unit in units for c in range(0, width, PIECE)], threads)
    return out


class _Forward:
    """A block of maps x (N, H, W) forward, with their gates (4, 3, H, W), of which the horizontal
    ones are `turned` (2, 3, W, H), into `out` (N, H, W), or (4, N, H, W) for ``all``."""

    def __init__(self, x: Any, gates: Any, turned: Any, out: Any, merge: str, normalise: bool):
        self.x, self.gates, self.turned, self.out = x, gates, turned, out
        self.apart, self.mean = merge == "all", merge == "mean"
        self.mode, self.normalise = (ADD if self.mean else MAX), normalise

    def whole(self) -> None:
        self.vertical()
        self.turn()
        self.sideways(0)
        self.sideways(1)
        for c in range(0, self.x.shape[2], PIECE):
            self.join(c)
        del self.side, self.x_turned

    def vertical(self) -> None:
        down, up = self.out[2:] if self.apart else (self.out, self.out)
        scan(self.x, self.gates[2], down, 1, COPY, self.normalise)
        scan(self.x, self.gates[3], up, -1, COPY if self.apart else self.mode, self.normalise)

    def turn(self) -> None:
        count, height, width = self.x.shape
        self.x_turned = np.empty((count, width, height), self.x.dtype)
        self.side = np.empty((2, count, width, height), self.x.dtype)
        _transpose(self.x_turned, self.x, COPY)

    def sideways(self, d: int) -> None:
        scan(self.x_turned, self.turned[d], self.side[d], STEPS[d], COPY, self.normalise)

    def join(self, column: int) -> None:
        """Bring some columns of the horizontal results into the map."""
        stop = min(column + PIECE, self.x.shape[2])
        if self.apart:
            for d in (0, 1):
                transpose_rows(self.out[d], self.side[d], COPY, column, stop)
            return
        one, other = self.side[:, :, column:stop]
        (np.add if self.mean else np.maximum)(one, other, out=one)
        transpose_rows(self.out, self.side[0], self.mode, column, stop)
        if self.mean:
            self.out[..., column:stop] *= self.x.dtype.type(0.25)


def backward(grad: Any, x: Any, gates: Any, merge: str, normalise: bool) -> tuple[Any, Any]:
    """The gradients of x and gates, given that of :func:`forward`'s result; same requirements.

    For a block of maps at a time the four directions are computed again (to keep them from the
    forward would take four times the memory of x), then scanned back.
    """
    batch, count, height, width = x.shape
    dx, dgates = np.empty_like(x), np.empty_like(gates)
    threads = _threads(x)
    for entries in _groups(gates):
        turned = np.empty((len(entries), 2, 3, width, height), x.dtype)
        dturned = np.empty_like(turned)
        _run(_turn_jobs(gates[entries.start : entries.stop, :2], turned, COPY), threads)
        for block in _blocks(count):
            units = [
                _Backward(
                    _of(grad, b, block, merge), x[b, block], gates[b], turned[i], dx[b, block],
                    dgates[b], dturned[i], merge, normalise, COPY if block.start == 0 else ADD,
                )
                for i, b in enumerate(entries)
            ]  # fmt: skip
            _run([job for u in units for job in (u.turn, partial(u.ahead, 2))], threads)
            _run([partial(u.ahead, d) for u in units for d in (3, 0, 1)], threads)
            _run([u.divide for u in units], threads)
            _run([partial(u.back, d) for u in units for d in (0, 2)], threads)
            _run([u.join for u in units], threads)
        _run(_turn_jobs(dturned, dgates[entries.start : entries.stop, :2], COPY), threads)
    return dx, dgates


class _Backward:
    """A block of maps back; arguments as for `_Forward`, and their gradients."""

    def __init__(
        self, grad: Any, x: Any, gates: Any, turned: Any, dx: Any, dgates: Any, dturned: Any,
        merge: str, normalise: bool, gates_mode: int,
    ):  # fmt: skip
        self.grad, self.x, self.dx, self.merge = grad, x, dx, merge
        self.gates = (*turned, *gates[2:])
        self.dgates = (*dturned, *dgates[2:])
        self.normalise, self.gates_mode = normalise, gates_mode

    def turn(self) -> None:
        count, height, width = self.x.shape
        self.x_turned = np.empty((count, width, height), self.x.dtype)
        self.dx_turned = np.empty_like(self.x_turned)
        self.results = [np.empty_like(self.x_turned if d < 2 else self.x) for d in range(4)]
        _transpose(self.x_turned, self.x, COPY)

    def ahead(self, d: int) -> None:
        x = self.x_turned if d < 2 else self.x
        scan(x, self.gates[d], self.results[d], STEPS[d], COPY, self.normalise)

    def divide(self) -> None:
        """The gradients that go to the four directions; the horizontal ones turned."""
        if self.merge == "all":
            sides = [np.empty_like(self.x_turned) for _ in range(2)]
            for d in (0, 1):
                _transpose(sides[d], self.grad[d], COPY)
            self.grads = [*sides, *self.grad[2:]]
            return
        vertical, sideways = self.grad, self.grad
        if self.merge == "max":
            vertical, sideways = np.empty_like(self.x), np.empty_like(self.x)
            _transpose(sideways, self.results[0], COPY)
            _transpose(sideways, self.results[1], MAX)
            share(self.grad, self.results[2], self.results[3], sideways, vertical)
        side = np.empty_like(self.x_turned)
        _transpose(side, sideways, COPY)
        self.grads = [side, side, vertical, vertical]

    def back(self, first: int) -> None:
        """Directions `first` and the opposite one."""
        x, dx = (self.x_turned, self.dx_turned) if first < 2 else (self.x, self.dx)
        scale = x.dtype.type(0.25 if self.merge == "mean" else 1)
        for d, other, x_mode in ((first, first + 1, COPY), (first + 1, first, ADD)):
            scan_back(
                self.grads[d], x, self.results[d], self.results[other], self.gates[d], dx,
                self.dgates[d], STEPS[d], x_mode, self.gates_mode, self.merge == "max", scale,
                self.normalise,
            )  # fmt: skip

    def join(self) -> None:
        _transpose(self.dx, self.dx_turned, ADD)


def _transpose(target: Any, source: Any, mode: int) -> None:
    transpose_rows(target, source, mode, 0, source.shape[1])


def _of(maps: Any, b: int, block: slice, merge: str) -> Any:
    return maps[b, :, block] if merge == "all" else maps[b, block]


def _blocks(count: int) -> list[slice]:
    return [slice(n, min(count, n + BLOCK)) for n in range(0, count, BLOCK)]


def _groups(gates: Any) -> list[range]:
    batch, size = len(gates), max(1, GROUP_BYTES // gates[0].nbytes)
    return [range(b, min(batch, b + size)) for b in range(0, batch, size)]


def _turn_jobs(source: Any, target: Any, mode: int) -> list[Job]:
    """Transpose arrays (B, 2, 3, ..): a job for each direction and gate."""
    return [
        partial(_transpose, target[b, d, j : j + 1], source[b, d, j : j + 1], mode)
        for b in range(len(source))
        for d in range(2)
        for j in range(3)
    ]


def _threads(x: Any) -> int:
    return 1 if x.size < SMALL else torch.get_num_threads()


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # a forked child has none of the threads


def _run(jobs: list[Job], threads: int) -> None:
    """Do all jobs on up to `threads` threads, one of which is the caller's: a helper that the
    machine has no time for is not waited for."""
    global _pool
    queue = iter(jobs)

    def drain() -> None:
        for job in queue:
            job()

    if threads > 1 and _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="segspn-spn")
    helpers = [_pool.submit(drain) for _ in range(threads - 1)] if _pool else []
    try:
        drain()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
