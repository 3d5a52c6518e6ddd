"""The propagation on the CPU: numba kernels, forward and backward, for float32 and float64.

The equations are those of :mod:`segspn.spn.reference`. What makes it fast:

- Every scan walks lines that are contiguous in memory, so that SIMD runs along the line. For the
  horizontal directions a line is a column: a tile of `LINES` columns is transposed into scratch that
  stays in the second-level cache, scanned there, and the result is transposed back.
- Gates are read once for a block of maps, and normalised on the way. One map alone normalises inside
  the scan itself; more maps share a tile of normalised gates.
- A job is one vertical and one horizontal direction (two jobs, equal work), or a single direction
  when there are threads for it. Jobs write maps of their own, merged at the end while still in
  cache; the order of the merge is fixed, so the result does not depend on the number of threads.
- Jobs run on Python threads (the kernels release the GIL), and the caller works through the same
  queue. numba's own parallel loops spin at their barriers: fine on an idle machine, but beside
  torch's threads or another process they were measured to be up to a hundred times slower.
- Inner loops have one store stream each: with more, LLVM gives up proving that they don't overlap,
  and leaves them scalar.

Importing this module imports numba; :mod:`segspn.spn.operator` does so at the first call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit

from segspn.spn.transpose import (
    transpose_add,
    transpose_copy,
    transpose_load,
    transpose_max,
)

LINES = 16  # lines of a tile: a cache line of float32 when columns are transposed
BLOCK_BYTES = 4 << 20  # maps propagated together: few enough to stay in the last-level cache
SMALL = 1 << 14  # values below which waking another thread costs more than it saves
MAX, MEAN, ALL = 0, 1, 2
MODES = {"max": MAX, "mean": MEAN, "all": ALL}

# No "fast" beyond fused multiply-add: NaN and infinity in the input must come out.
_options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_jit = njit(cache=True, **_options)
# Lines are given as an array and a row: to make a view of each would count references, atomically,
# which takes as long as the line itself.
_line_jit = njit(forceinline=True, **_options)


# --- lines ----------------------------------------------------------------------------------------


@_line_jit
def _pixel(x, xr, prev, pr, g, r, l, length, normalise):  # one pixel, whatever neighbours it has
    one = x.dtype.type(1)
    a, b, c, v = g[0, r, l], g[1, r, l], g[2, r, l], x[xr, l]
    step = b * (prev[pr, l] - v)
    if l > 0:
        step += a * (prev[pr, l - 1] - v)
    if l + 1 < length:
        step += c * (prev[pr, l + 1] - v)
    if normalise:
        step *= one / max(one, abs(a) + abs(b) + abs(c))
    return v + step


@_line_jit
def _line(h, hr, x, xr, prev, pr, g, r, length, normalise):
    """h = x + sum_j g_j (prev[l + j] - x), the gates being normalised or not."""
    one = x.dtype.type(1)
    h[hr, 0] = _pixel(x, xr, prev, pr, g, r, 0, length, normalise)
    if normalise:
        for l in range(1, length - 1):
            a, b, c, v = g[0, r, l], g[1, r, l], g[2, r, l], x[xr, l]
            step = a * (prev[pr, l - 1] - v) + b * (prev[pr, l] - v) + c * (prev[pr, l + 1] - v)
            h[hr, l] = v + step * (one / max(one, abs(a) + abs(b) + abs(c)))
    else:
        for l in range(1, length - 1):
            a, b, c, v = g[0, r, l], g[1, r, l], g[2, r, l], x[xr, l]
            step = a * (prev[pr, l - 1] - v) + b * (prev[pr, l] - v) + c * (prev[pr, l + 1] - v)
            h[hr, l] = v + step
    h[hr, length - 1] = _pixel(x, xr, prev, pr, g, r, length - 1, length, normalise)


@_line_jit
def _copy(out, r, line, q, length):
    for l in range(length):
        out[r, l] = line[q, l]


@_line_jit
def _merge(out, r, line, q, length, mode):
    if mode == MAX:
        for l in range(length):
            u, v = out[r, l], line[q, l]
            out[r, l] = v if v > u or v != v else u  # NaN wins, as in torch.max
    else:
        for l in range(length):
            out[r, l] += line[q, l]


# --- tiles ----------------------------------------------------------------------------------------


@_jit
def _columns(tile, source, first, count, height, width, ahead):
    """tile[i, r] = source[r, first + i]; columns outside the map are left alone. `ahead` is how far
    the next but one tile is: its part of the row is fetched meanwhile."""
    square = 64 // tile.itemsize
    whole = height // square * square
    if first >= 0 and first + LINES <= width and count == LINES:
        for r in range(0, whole, square):
            for i in range(0, LINES, square):
                transpose_load(tile, i, r, source, r, first + i, ahead)
    else:
        whole = 0
    for r in range(whole, height):
        for i in range(max(0, -first), min(count, width - first)):
            tile[i, r] = source[r, first + i]


@_jit
def _columns_back(target, tile, first, count, height, start, mode, ahead):
    """The inverse of `_columns`; merges into what is there unless `start`."""
    square = 64 // tile.itemsize
    whole = height // square * square if count == LINES else 0
    for r in range(0, whole, square):
        for i in range(0, LINES, square):
            if start:
                transpose_copy(target, r, first + i, tile, i, r, ahead)
            elif mode == MAX:
                transpose_max(target, r, first + i, tile, i, r, ahead)
            else:
                transpose_add(target, r, first + i, tile, i, r, ahead)
    for r in range(whole, height):
        for i in range(count):
            u, v = target[r, first + i], tile[i, r]
            if start:
                target[r, first + i] = v
            elif mode == MAX:
                target[r, first + i] = v if v > u or v != v else u
            else:
                target[r, first + i] = u + v


@_jit
def _gates(tile, total, gates, first, count, horizontal, normalise, ahead):
    """The gates (3, H, W) of `count` lines into `tile` (3, LINES, ..), divided by `total` = max(1, s)
    if `normalise`; then `total` is negative where s < 1, so that the backward can tell."""
    _, height, width = gates.shape
    length = height if horizontal else width
    for j in range(3):
        if horizontal:
            _columns(tile[j], gates[j], first, count, height, width, ahead)
        else:
            for i in range(count):
                _copy(tile[j], i, gates[j], first + i, length)
    if normalise:
        one = tile.dtype.type(1)
        for i in range(count):
            for l in range(length):
                s = abs(tile[0, i, l]) + abs(tile[1, i, l]) + abs(tile[2, i, l])
                total[i, l] = -one if s < one else s
            for j in range(3):
                for l in range(length):
                    tile[j, i, l] /= abs(total[i, l])


# --- forward --------------------------------------------------------------------------------------


@_jit
def _forward_direction(
    x, gates, out, d, start, mode, normalise, g_tile, s_tile, x_tile, h_tile, carry
):
    """One direction of maps x (N, H, W) with gates (3, H, W) into out (N, H, W)."""
    count, height, width = x.shape
    horizontal = d < 2
    lines, length = (width, height) if horizontal else (height, width)
    step = 1 if d % 2 == 0 else -1
    tiles = (lines + LINES - 1) // LINES
    ahead = 2 * LINES * step
    shared = normalise and count > 1
    for k in range(tiles):
        first = (k if step == 1 else tiles - 1 - k) * LINES
        size = min(LINES, lines - first)
        g, g_row = gates, first
        if horizontal or shared:
            _gates(g_tile, s_tile, gates, first, size, horizontal, shared, ahead)
            g, g_row = g_tile, 0
        for n in range(count):
            xs, x_row, h, h_row = x[n], first, out[n], first
            if horizontal:
                _columns(x_tile, xs, first, size, height, width, ahead)
                xs, x_row = x_tile, 0
            if horizontal or not start:
                h, h_row = h_tile, 0
            for i in range(size):
                m = i if step == 1 else size - 1 - i
                if k == 0 and i == 0:
                    _copy(h, h_row + m, xs, x_row + m, length)
                elif i == 0:
                    fused = normalise and not shared
                    _line(h, h_row + m, xs, x_row + m, carry, n, g, g_row + m, length, fused)
                else:
                    fused = normalise and not shared
                    q = h_row + m - step
                    _line(h, h_row + m, xs, x_row + m, h, q, g, g_row + m, length, fused)
            _copy(carry, n, h, h_row + (size - 1 if step == 1 else 0), length)
            if horizontal:
                _columns_back(out[n], h, first, size, height, start, mode, ahead)
            elif not start:
                for m in range(size):
                    _merge(out[n], first + m, h, m, length, mode)


@_jit
def _finish(out, maps, mode):
    """Merge `maps` (P - 1, N, H, W), the parts but the first, into `out` (N, H, W), the first; the
    additions are in the same order for two parts as for four."""
    count, height, width = out.shape
    for n in range(count):
        o = out[n]
        for r in range(height):
            if len(maps) == 1:
                _merge(o, r, maps[0, n], r, width, mode)
            else:
                _merge(o, r, maps[1, n], r, width, mode)
                _merge(maps[0, n], r, maps[2, n], r, width, mode)
                _merge(o, r, maps[0, n], r, width, mode)
            if mode == MEAN:
                for l in range(width):
                    o[r, l] *= o.dtype.type(0.25)


def forward(x: Any, gates: Any, merge: str, normalise: bool) -> Any:
    """One round. Arrays x (B, N, H, W) and gates (B, 4, 3, H, W), C-contiguous, float32 or float64,
    nothing empty; returns (B, N, H, W), or (B, 4, N, H, W) for ``all``."""
    mode = MODES[merge]
    batch, count, height, width = x.shape
    out = np.empty((batch, 4 if mode == ALL else 1, count, height, width), x.dtype)
    threads, parts, block = _plan(x)
    jobs: list[Callable[[], None]] = []
    for b in range(batch):
        for n0 in range(0, count, block):
            unit = slice(n0, n0 + block)
            if mode == ALL:
                jobs += [
                    partial(_forward_part, x[b, unit], gates[b], out[b, d, unit], d, 4, mode, normalise)
                    for d in range(4)
                ]
            else:
                jobs += _Unit(x[b, unit], gates[b], out[b, 0, unit], parts, mode, normalise).jobs()
    _run(jobs, threads)
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
                self.maps = np.empty((self.parts - 1, *self.x.shape), self.x.dtype)
        target = self.out if p == 0 else self.maps[p - 1]
        _forward_part(self.x, self.gates, target, p, self.parts, self.mode, self.normalise)
        with self.lock:
            self.left -= 1
            last = self.left == 0
        if last:
            _finish(self.out, self.maps, self.mode)
            self.maps = None


def _forward_part(
    x: Any, gates: Any, target: Any, p: int, parts: int, mode: int, normalise: bool
) -> None:
    """The directions of part p, merged into `target`."""
    tiles = _scratch(x, 6)
    carry = np.empty((len(x), tiles.shape[2]), x.dtype)
    # the vertical direction first: it writes the map without a detour
    for d in range(p + 4 - parts, -1, -parts):
        start = d + parts > 3
        _forward_direction(
            x, gates[d], target, d, start, mode, normalise, tiles[:3], *tiles[3:], carry
        )


def _plan(x: Any) -> tuple[int, int, int]:
    """Threads, parts and maps of a block for maps x (B, N, H, W)."""
    batch, count, height, width = x.shape
    threads = 1 if x.size < SMALL else torch.get_num_threads()
    block = max(1, min(count, BLOCK_BYTES // (height * width * x.itemsize)))
    parts = 4 if threads >= 4 and batch * -(-count // block) * 2 < threads else 2
    return threads, parts, block


def _scratch(x: Any, tiles: int) -> Any:
    length = max(x.shape[-2:]) // 16 * 16 + 16
    return np.empty((tiles, LINES, length), x.dtype)


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # a forked child has none of the threads


def _run(jobs: Iterable[Callable[[], None]], threads: int) -> None:
    """Do all jobs on up to `threads` threads, one of which is the caller's: a helper that the
    machine has no time for is not waited for."""
    global _pool
    queue = iter(list(jobs))

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


# --- backward -------------------------------------------------------------------------------------


@_line_jit
def _pull(error, r, after, q, g, k, length):
    """error[l] += sum_j g_j[l - j] after[l - j]: what the next line took from this one."""
    if length == 1:
        error[r, 0] += g[1, k, 0] * after[q, 0]
        return
    e = length - 1
    error[r, 0] += g[1, k, 0] * after[q, 0] + g[0, k, 1] * after[q, 1]
    for l in range(1, e):
        error[r, l] += (
            g[0, k, l + 1] * after[q, l + 1]
            + g[1, k, l] * after[q, l]
            + g[2, k, l - 1] * after[q, l - 1]
        )
    error[r, e] += g[1, k, e] * after[q, e] + g[2, k, e - 1] * after[q, e - 1]


@_line_jit
def _to_input(dx, r, error, g, m, length):
    """dx = (1 - sum_j g_j) error, over the gates that have a neighbour."""
    one = dx.dtype.type(1)
    for l in range(length):
        dx[r, l] = error[m, l] * (one - (g[0, m, l] + g[1, m, l] + g[2, m, l]))
    dx[r, 0] += error[m, 0] * g[0, m, 0]
    dx[r, length - 1] += error[m, length - 1] * g[2, m, length - 1]


@_line_jit
def _to_gates(dg, error, m, prev, pr, x, xr, length):
    """dg_j += error (prev[l + j] - x)."""
    for l in range(1, length):
        dg[0, m, l] += error[m, l] * (prev[pr, l - 1] - x[xr, l])
    for l in range(length):
        dg[1, m, l] += error[m, l] * (prev[pr, l] - x[xr, l])
    for l in range(length - 1):
        dg[2, m, l] += error[m, l] * (prev[pr, l + 1] - x[xr, l])


@_jit
def _through_norm(dg, g, total, dot, count, length):
    """dg to dĝ = (dg_j - sign(ĝ_j) sum_i dg_i g_i) / s, the second term where s >= 1."""
    zero = dot.dtype.type(0)
    for m in range(count):
        for l in range(length):
            u = dg[0, m, l] * g[0, m, l] + dg[1, m, l] * g[1, m, l] + dg[2, m, l] * g[2, m, l]
            dot[0, l] = u if total[m, l] > zero else zero
        for j in range(3):
            for l in range(length):
                v, u = g[j, m, l], dot[0, l]
                signed = u if v > zero else (-u if v < zero else zero)
                dg[j, m, l] = (dg[j, m, l] - signed) / abs(total[m, l])


@_line_jit
def _masked(error, m, grad, winner, r, d, scale, masked, length):
    """The part of the merged map's gradient that belongs to direction d."""
    zero, number = error.dtype.type(0), error.dtype.type(d)
    if masked:
        for l in range(length):
            error[m, l] = grad[r, l] if winner[r, l] == number else zero
    else:
        for l in range(length):
            error[m, l] = grad[r, l] * scale


@_jit
def _backward_direction(
    grad, x, h, gates, winner, dx, dgates, d, start, add, mode, normalise, floats, errors
):
    """One direction back: grad, x, h, dx (N, H, W), winner (N, H, W), gates, dgates (3, H, W).

    `start`: dx is written, else added to; `add`: dgates is added to, else written. `floats` is
    scratch of 16 tiles, `errors` the lines carried from tile to tile, (N, length).
    """
    count, height, width = x.shape
    horizontal = d < 2
    lines, length = (width, height) if horizontal else (height, width)
    step = 1 if d % 2 == 0 else -1
    tiles = (lines + LINES - 1) // LINES
    ahead = -2 * LINES * step
    g, dg = floats[0:3], floats[3:6]
    total, x_tile, h_tile, y_tile = floats[6], floats[7], floats[8], floats[9]
    w_tile, e_tile, dx_tile, after = floats[10], floats[11], floats[12], floats[13:16]
    zero, scale = x.dtype.type(0), x.dtype.type(0.25 if mode == MEAN else 1)
    for k in range(tiles):
        first = (tiles - 1 - k if step == 1 else k) * LINES
        size = min(LINES, lines - first)
        _gates(g, total, gates, first, size, horizontal, normalise, ahead)
        dg[:] = zero
        for n in range(count):
            xs, hs, dy, won, row, h_row = x[n], h[n], grad[n], winner[n], first, first - step
            if horizontal:
                _columns(x_tile, xs, first, size, height, width, ahead)
                _columns(h_tile, hs, h_row, size, height, width, ahead)
                _columns(y_tile, dy, first, size, height, width, ahead)
                if mode == MAX:
                    _columns(w_tile, won, first, size, height, width, ahead)
                xs, hs, dy, won, row, h_row = x_tile, h_tile, y_tile, w_tile, 0, 0
            for i in range(size):
                m = size - 1 - i if step == 1 else i
                _masked(e_tile, m, dy, won, row + m, d, scale, mode == MAX, length)
                if i > 0:
                    _pull(e_tile, m, e_tile, m + step, g, m + step, length)
                elif k > 0:
                    _pull(e_tile, m, errors, n, after, 0, length)
                if k == tiles - 1 and i == size - 1:
                    _copy(dx_tile, m, e_tile, m, length)  # the first line: H = X
                else:
                    _to_input(dx_tile, m, e_tile, g, m, length)
                    _to_gates(dg, e_tile, m, hs, h_row + m, xs, row + m, length)
            _copy(errors, n, e_tile, 0 if step == 1 else size - 1, length)
            _lines_back(dx[n], dx_tile, first, size, horizontal, start, ahead)
        for j in range(3):
            _copy(after[j], 0, g[j], 0 if step == 1 else size - 1, length)
        if normalise:
            _through_norm(dg, g, total, dx_tile, size, length)
        for j in range(3):
            _lines_back(dgates[j], dg[j], first, size, horizontal, not add, ahead)


@_jit
def _lines_back(target, tile, first, count, horizontal, start, ahead):
    """Write or add the lines of a tile to the map they belong to."""
    height, width = target.shape
    if horizontal:
        _columns_back(target, tile, first, count, height, start, MEAN, ahead)
    else:
        for m in range(count):
            if start:
                _copy(target, first + m, tile, m, width)
            else:
                _merge(target, first + m, tile, m, width, MEAN)


@_jit
def _winners(winner, results):
    """The direction, as a float (it is transposed like the rest), of the largest of `results` (4, N, H, W), the first of equals."""
    _, count, height, width = results.shape
    kind = results.dtype.type
    zero, one, two, three = kind(0), kind(1), kind(2), kind(3)
    for n in range(count):
        for r in range(height):
            for l in range(width):
                best, w = results[0, n, r, l], zero
                if results[1, n, r, l] > best:
                    best, w = results[1, n, r, l], one
                if results[2, n, r, l] > best:
                    best, w = results[2, n, r, l], two
                if results[3, n, r, l] > best:
                    w = three
                winner[n, r, l] = w


def backward(grad: Any, x: Any, gates: Any, merge: str, normalise: bool) -> tuple[Any, Any]:
    """The gradients of x and gates, given that of :func:`forward`'s result; same requirements.

    For a block of maps of some batch entries at a time, the four directions are computed again (which
    is faster than to have kept them: it stays in cache), then scanned back.
    """
    mode = MODES[merge]
    batch, count, height, width = x.shape
    if mode != ALL:
        grad = grad[:, None]
    dx, dgates = np.empty_like(x), np.empty_like(gates)
    threads, parts, block = _plan(x)
    group = max(1, threads // parts, BLOCK_BYTES // (block * height * width * x.itemsize))
    for b0 in range(0, batch, group):
        for n0 in range(0, count, block):
            unit = slice(n0, n0 + block)
            works = [
                _Back(
                    grad[b, :, unit], x[b, unit], gates[b], dx[b, unit], dgates[b],
                    parts, mode, normalise, n0 > 0,
                )
                for b in range(b0, min(batch, b0 + group))
            ]
            _run([partial(w.ahead, d) for w in works for d in range(4)], threads)
            if mode == MAX:
                _run([w.choose for w in works], threads)
            _run([partial(w.back, p) for w in works for p in range(parts)], threads)
            _run([w.finish for w in works], threads)
    return dx, dgates


class _Back:
    """The backward of one block of maps, as jobs."""

    def __init__(
        self, grad: Any, x: Any, gates: Any, dx: Any, dgates: Any, parts: int, mode: int,
        normalise: bool, add: bool,
    ):
        self.grad, self.x, self.gates, self.dx, self.dgates = grad, x, gates, dx, dgates
        self.parts, self.mode, self.normalise, self.add = parts, mode, normalise, add
        self.results = np.empty((4, *x.shape), x.dtype)
        self.maps = np.empty((parts - 1, *x.shape), x.dtype)
        self.winners = np.empty(x.shape, x.dtype)

    def ahead(self, d: int) -> None:
        _forward_part(self.x, self.gates, self.results[d], d, 4, self.mode, self.normalise)

    def choose(self) -> None:
        _winners(self.winners, self.results)

    def back(self, p: int) -> None:
        tiles = _scratch(self.x, 16)
        carry = np.empty((len(self.x), tiles.shape[2]), self.x.dtype)
        dx = self.dx if p == 0 else self.maps[p - 1]
        for d in range(p + 4 - self.parts, -1, -self.parts):
            _backward_direction(
                self.grad[d if self.mode == ALL else 0], self.x, self.results[d], self.gates[d],
                self.winners, dx, self.dgates[d], d, d + self.parts > 3, self.add, self.mode,
                self.normalise, tiles, carry,
            )

    def finish(self) -> None:
        _finish(self.dx, self.maps, ALL)
