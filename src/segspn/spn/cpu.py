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

from segspn.spn.transpose import transpose_add, transpose_copy, transpose_max

LINES = 16  # lines of a tile: a cache line of float32 when columns are transposed
BLOCK_BYTES = 4 << 20  # maps propagated together: few enough to stay in the last-level cache
SMALL = 1 << 14  # values below which waking another thread costs more than it saves
MAX, MEAN, ALL = 0, 1, 2
MODES = {"max": MAX, "mean": MEAN, "all": ALL}

# No "fast" beyond fused multiply-add: NaN and infinity in the input must come out.
_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


# --- lines ----------------------------------------------------------------------------------------


@_jit
def _pixel(x, prev, a, b, c, l, length, normalise):  # one pixel, whatever neighbours it has
    one = x.dtype.type(1)
    v = x[l]
    step = b[l] * (prev[l] - v)
    if l > 0:
        step += a[l] * (prev[l - 1] - v)
    if l + 1 < length:
        step += c[l] * (prev[l + 1] - v)
    if normalise:
        step *= one / max(one, abs(a[l]) + abs(b[l]) + abs(c[l]))
    return v + step


@_jit
def _line(h, x, prev, a, b, c, length, normalise):
    """h = x + sum_j g_j (prev[l + j] - x), the gates a, b, c being normalised or not."""
    one = x.dtype.type(1)
    h[0] = _pixel(x, prev, a, b, c, 0, length, normalise)
    if normalise:
        for l in range(1, length - 1):
            v = x[l]
            step = a[l] * (prev[l - 1] - v) + b[l] * (prev[l] - v) + c[l] * (prev[l + 1] - v)
            h[l] = v + step * (one / max(one, abs(a[l]) + abs(b[l]) + abs(c[l])))
    else:
        for l in range(1, length - 1):
            v = x[l]
            h[l] = v + (a[l] * (prev[l - 1] - v) + b[l] * (prev[l] - v) + c[l] * (prev[l + 1] - v))
    h[length - 1] = _pixel(x, prev, a, b, c, length - 1, length, normalise)


@_jit
def _copy(out, line, length):
    for l in range(length):
        out[l] = line[l]


@_jit
def _merge(out, line, length, mode):
    if mode == MAX:
        for l in range(length):
            u, v = out[l], line[l]
            out[l] = v if v > u or v != v else u  # NaN wins, as in torch.max
    else:
        for l in range(length):
            out[l] += line[l]


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
                transpose_copy(tile, i, r, source, r, first + i, ahead)
    else:
        whole = 0
    for r in range(whole, height):
        for i in range(max(0, -first), min(count, width - first)):
            tile[i, r] = source[r, first + i]


@_jit
def _columns_back(target, tile, first, count, height, start, mode):
    """The inverse of `_columns`; merges into what is there unless `start`."""
    square = 64 // tile.itemsize
    whole = height // square * square if count == LINES else 0
    for r in range(0, whole, square):
        for i in range(0, LINES, square):
            if start:
                transpose_copy(target, r, first + i, tile, i, r, 0)
            elif mode == MAX:
                transpose_max(target, r, first + i, tile, i, r, 0)
            else:
                transpose_add(target, r, first + i, tile, i, r, 0)
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
def _normalise(tile, total, source, row, count, length):
    """tile[j, i] = source[j, row + i] / total[i], total = max(1, s), negative where s < 1 (so that
    the backward can tell). `source` may be `tile` itself."""
    one = tile.dtype.type(1)
    for i in range(count):
        a, b, c, s = source[0, row + i], source[1, row + i], source[2, row + i], total[i]
        for l in range(length):
            w = abs(a[l]) + abs(b[l]) + abs(c[l])
            s[l] = -one if w < one else w
        for j in range(3):
            g, raw = tile[j, i], source[j, row + i]
            for l in range(length):
                g[l] = raw[l] / abs(s[l])


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
        if horizontal:
            for j in range(3):
                _columns(g_tile[j], gates[j], first, size, height, width, ahead)
            g, g_row = g_tile, 0
        if shared:
            _normalise(g_tile, s_tile, g, g_row, size, length)
            g, g_row = g_tile, 0
        for n in range(count):
            xs, x_row = x[n], first
            if horizontal:
                _columns(x_tile, x[n], first, size, height, width, ahead)
                xs, x_row = x_tile, 0
            direct = start and not horizontal
            for i in range(size):
                m = i if step == 1 else size - 1 - i
                if direct:
                    h = out[n, first + m]
                else:
                    h = h_tile[m]
                if k == 0 and i == 0:
                    _copy(h, xs[x_row + m], length)
                else:
                    if i == 0 and not direct:
                        prev = carry[n]
                    elif direct:
                        prev = out[n, first + m - step]
                    else:
                        prev = h_tile[m - step]
                    r = g_row + m
                    _line(
                        h,
                        xs[x_row + m],
                        prev,
                        g[0, r],
                        g[1, r],
                        g[2, r],
                        length,
                        normalise and not shared,
                    )
            if not direct:
                _copy(carry[n], h_tile[size - 1 if step == 1 else 0], length)
                if horizontal:
                    _columns_back(out[n], h_tile, first, size, height, start, mode)
                else:
                    for m in range(size):
                        _merge(out[n, first + m], h_tile[m], length, mode)


@_jit
def _finish(out, maps, mode):
    """Merge `maps` (P - 1, N, H, W), the parts but the first, into `out` (N, H, W), the first; the
    additions are in the same order for two parts as for four."""
    count, height, width = out.shape
    for n in range(count):
        for r in range(height):
            line = out[n, r]
            if len(maps) == 1:
                _merge(line, maps[0, n, r], width, mode)
            else:
                _merge(line, maps[1, n, r], width, mode)
                _merge(maps[0, n, r], maps[2, n, r], width, mode)
                _merge(line, maps[0, n, r], width, mode)
            if mode == MEAN:
                for l in range(width):
                    line[l] *= line.dtype.type(0.25)


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


@_jit
def _pull(error, after, a, b, c, length):
    """error[l] += sum_j g_j[l - j] after[l - j]: what the next line took from this one."""
    if length == 1:
        error[0] += b[0] * after[0]
        return
    error[0] += b[0] * after[0] + a[1] * after[1]
    for l in range(1, length - 1):
        error[l] += a[l + 1] * after[l + 1] + b[l] * after[l] + c[l - 1] * after[l - 1]
    error[length - 1] += b[length - 1] * after[length - 1] + c[length - 2] * after[length - 2]


@_jit
def _to_input(dx, error, a, b, c, length):
    """dx = (1 - sum_j g_j) error, over the gates that have a neighbour."""
    one = dx.dtype.type(1)
    for l in range(length):
        dx[l] = error[l] * (one - (a[l] + b[l] + c[l]))
    dx[0] += error[0] * a[0]
    dx[length - 1] += error[length - 1] * c[length - 1]


@_jit
def _to_gates(da, db, dc, error, prev, x, length):
    """dg_j += error (prev[l + j] - x)."""
    for l in range(1, length):
        da[l] += error[l] * (prev[l - 1] - x[l])
    for l in range(length):
        db[l] += error[l] * (prev[l] - x[l])
    for l in range(length - 1):
        dc[l] += error[l] * (prev[l + 1] - x[l])


@_jit
def _through_norm(da, db, dc, a, b, c, total, dot, length):
    """dg to dĝ = (dg_j - sign(ĝ_j) sum_i dg_i g_i) / s, the second term where s >= 1."""
    zero = dot.dtype.type(0)
    for l in range(length):
        u = da[l] * a[l] + db[l] * b[l] + dc[l] * c[l]
        dot[l] = u if total[l] > zero else zero
    for grad, g in ((da, a), (db, b), (dc, c)):
        for l in range(length):
            v = g[l]
            u = dot[l]
            signed = u if v > zero else (-u if v < zero else zero)
            grad[l] = (grad[l] - signed) / abs(total[l])


@_jit
def _masked(error, grad, winner, d, scale, masked, length):
    """The part of the merged map's gradient that belongs to direction d."""
    zero = error.dtype.type(0)
    if masked:
        for l in range(length):
            error[l] = grad[l] if winner[l] == d else zero
    else:
        for l in range(length):
            error[l] = grad[l] * scale


@_jit
def _backward_direction(
    grad, x, h, gates, winner, dx, dgates, d, start, add, mode, normalise, floats, errors
):
    """One direction back: grad, x, h, dx (N, H, W), winner (N, H, W), gates, dgates (3, H, W).

    `start`: dx is written, else added to; `add`: dgates is added to, else written. `floats` is
    scratch for 14 tiles, `errors` the lines carried from tile to tile, (N + 4, length).
    """
    count, height, width = x.shape
    horizontal = d < 2
    lines, length = (width, height) if horizontal else (height, width)
    step = 1 if d % 2 == 0 else -1
    tiles = (lines + LINES - 1) // LINES
    ahead = -2 * LINES * step
    g, dg = floats[0:3], floats[3:6]
    total, x_tile, h_tile, e_tile, flat = floats[6], floats[7], floats[8], floats[9], floats[10]
    after = errors[count:]
    zero, scale = x.dtype.type(0), x.dtype.type(0.25 if mode == MEAN else 1)
    for k in range(tiles):
        first = (tiles - 1 - k if step == 1 else k) * LINES
        size = min(LINES, lines - first)
        source, row = gates, first
        if horizontal:
            for j in range(3):
                _columns(g[j], gates[j], first, size, height, width, ahead)
            source, row = g, 0
        if normalise:
            _normalise(g, total, source, row, size, length)
        elif not horizontal:
            for j in range(3):
                for m in range(size):
                    _copy(g[j, m], gates[j, first + m], length)
        dg[:] = zero
        for n in range(count):
            xs, hs, x_row, h_row = x[n], h[n], first, first - step
            if horizontal:
                _columns(x_tile, x[n], first, size, height, width, ahead)
                _columns(h_tile, h[n], first - step, size, height, width, ahead)
                xs, hs, x_row, h_row = x_tile, h_tile, 0, 0
                for r in range(height):
                    _masked(
                        flat[0], grad[n, r, first:], winner[n, r, first:], d, scale, mode == MAX,
                        size,
                    )
                    for i in range(size):
                        e_tile[i, r] = flat[0, i]
            for i in range(size):
                m = size - 1 - i if step == 1 else i
                error = e_tile[m]
                if not horizontal:
                    _masked(
                        error, grad[n, first + m], winner[n, first + m], d, scale, mode == MAX,
                        length,
                    )
                if i > 0:
                    q = m + step
                    _pull(error, e_tile[q], g[0, q], g[1, q], g[2, q], length)
                elif k > 0:
                    _pull(error, errors[n], after[0], after[1], after[2], length)
                if k == tiles - 1 and i == size - 1:
                    _copy(flat[m], error, length)  # the first line: H = X
                else:
                    _to_input(flat[m], error, g[0, m], g[1, m], g[2, m], length)
                    _to_gates(
                        dg[0, m], dg[1, m], dg[2, m], error, hs[h_row + m], xs[x_row + m], length
                    )
            _copy(errors[n], e_tile[0 if step == 1 else size - 1], length)
            if horizontal:
                _columns_back(dx[n], flat, first, size, height, start, MEAN)
            else:
                for m in range(size):
                    if start:
                        _copy(dx[n, first + m], flat[m], length)
                    else:
                        _merge(dx[n, first + m], flat[m], length, MEAN)
        for j in range(3):
            _copy(after[j], g[j, 0 if step == 1 else size - 1], length)
        if normalise:
            for m in range(size):
                _through_norm(
                    dg[0, m], dg[1, m], dg[2, m], g[0, m], g[1, m], g[2, m], total[m], flat[0],
                    length,
                )
        for j in range(3):
            if horizontal:
                _columns_back(dgates[j], dg[j], first, size, height, not add, MEAN)
            else:
                for m in range(size):
                    if add:
                        _merge(dgates[j, first + m], dg[j, m], length, MEAN)
                    else:
                        _copy(dgates[j, first + m], dg[j, m], length)


@_jit
def _winners(winner, results):
    """The direction (uint8) of the largest of `results` (4, N, H, W), the first of equals."""
    _, count, height, width = results.shape
    for n in range(count):
        for r in range(height):
            line = winner[n, r]
            a, b, c, d = results[0, n, r], results[1, n, r], results[2, n, r], results[3, n, r]
            for l in range(width):
                best, w = a[l], np.uint8(0)
                if b[l] > best:
                    best, w = b[l], np.uint8(1)
                if c[l] > best:
                    best, w = c[l], np.uint8(2)
                if d[l] > best:
                    w = np.uint8(3)
                line[l] = w


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
        self.winners = np.empty(x.shape, np.uint8)

    def ahead(self, d: int) -> None:
        _forward_part(self.x, self.gates, self.results[d], d, 4, self.mode, self.normalise)

    def choose(self) -> None:
        _winners(self.winners, self.results)

    def back(self, p: int) -> None:
        tiles = _scratch(self.x, 11)
        carry = np.empty((len(self.x) + 3, tiles.shape[2]), self.x.dtype)
        dx = self.dx if p == 0 else self.maps[p - 1]
        for d in range(p + 4 - self.parts, -1, -self.parts):
            _backward_direction(
                self.grad[d if self.mode == ALL else 0], self.x, self.results[d], self.gates[d],
                self.winners, dx, self.dgates[d], d, d + self.parts > 3, self.add, self.mode,
                self.normalise, tiles, carry,
            )

    def finish(self) -> None:
        _finish(self.dx, self.maps, ALL)
