"""The propagation on the CPU: numba kernels, forward and backward, for float32 and float64.

The equations are those of :mod:`segspn.spn.reference`. What makes it fast:

- Every scan walks lines that are contiguous in memory, so that SIMD runs along the line. For the
  horizontal directions a line is a column: a tile of `LINES` columns is transposed into scratch that
  stays in the second-level cache, scanned there, and the result is transposed back.
- Gates are read once for a block of maps, and normalised on the way. One map alone normalises inside
  the scan itself; more maps share a tile of normalised gates.
- A task is one vertical and one horizontal direction (two tasks, equal work), or a single direction
  when there are threads for it. Tasks write maps of their own, merged at the end while still in
  cache; the order of the merge is fixed, so the result does not depend on the number of threads.
- Inner loops have one store stream each: with more, LLVM gives up proving that they don't overlap,
  and leaves them scalar.

Importing this module imports numba; :mod:`segspn.spn.operator` does so at the first call.
"""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange

LINES = 16  # lines of a tile: a cache line of float32 when columns are transposed
BLOCK_BYTES = 4 << 20  # maps propagated together: few enough to stay in the last-level cache
CHUNK = 8  # rows that one step of the merge takes
MAX, MEAN, ALL = 0, 1, 2
MODES = {"max": MAX, "mean": MEAN, "all": ALL}

# No "fast" beyond fused multiply-add: NaN and infinity in the input must come out.
_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
_jit_parallel = njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"contract"}, parallel=True
)

# numba's plain work queue, its last resort among threading layers, dies on concurrent launches.
_launch = threading.Lock()


# --- lines -----------------------------------------------------------------------------------------


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


# --- tiles -----------------------------------------------------------------------------------------


@_jit
def _columns(tile, source, first, count, height, width):
    """tile[i, r] = source[r, first + i]; columns outside the map are left alone."""
    lo, hi = max(0, -first), min(count, width - first)
    if lo == 0 and hi == LINES:  # a constant count, so that the loop is unrolled
        for r in range(height):
            row = source[r, first:]
            for i in range(LINES):
                tile[i, r] = row[i]
    else:
        for r in range(height):
            for i in range(lo, hi):
                tile[i, r] = source[r, first + i]


@_jit
def _columns_back(target, tile, first, count, height, start, mode):
    """The inverse of `_columns`; merges into what is there unless `start`."""
    for r in range(height):
        row = target[r, first:]
        if count == LINES:
            _store(row, tile, r, LINES, start, mode)
        else:
            _store(row, tile, r, count, start, mode)


@_jit
def _store(row, tile, r, count, start, mode):
    if start:
        for i in range(count):
            row[i] = tile[i, r]
    elif mode == MAX:
        for i in range(count):
            u, v = row[i], tile[i, r]
            row[i] = v if v > u or v != v else u
    else:
        for i in range(count):
            row[i] += tile[i, r]


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


# --- forward ---------------------------------------------------------------------------------------


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
    shared = normalise and count > 1
    for k in range(tiles):
        first = (k if step == 1 else tiles - 1 - k) * LINES
        size = min(LINES, lines - first)
        g, g_row = gates, first
        if horizontal:
            for j in range(3):
                _columns(g_tile[j], gates[j], first, size, height, width)
            g, g_row = g_tile, 0
        if shared:
            _normalise(g_tile, s_tile, g, g_row, size, length)
            g, g_row = g_tile, 0
        for n in range(count):
            xs, x_row = x[n], first
            if horizontal:
                _columns(x_tile, x[n], first, size, height, width)
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


@_jit_parallel
def _forward(x, gates, out, mode, normalise, parts, groups, block, lengths):
    """x (B, N, H, W), gates (B, 4, 3, H, W), out (B, K, N, H, W) with K = 4 for ALL, else 1.

    A unit is a block of maps of one batch entry; `groups` units run at a time, `parts` tasks each.
    """
    batch, count, height, width = x.shape
    slots = groups * parts
    g_tiles = np.empty((slots, 3, LINES, lengths), x.dtype)
    s_tiles = np.empty((slots, LINES, lengths), x.dtype)
    x_tiles = np.empty((slots, LINES, lengths), x.dtype)
    h_tiles = np.empty((slots, LINES, lengths), x.dtype)
    carries = np.empty((slots, block, lengths), x.dtype)
    own = 0 if mode == ALL else parts - 1  # the first part writes to the result itself
    maps = np.empty((groups, own, block, height, width), x.dtype)
    blocks = (count + block - 1) // block
    units = batch * blocks
    chunks = (height + CHUNK - 1) // CHUNK
    for base in range(0, units, groups):
        now = min(groups, units - base)
        for task in prange(now * parts):
            slot, p = task // parts, task % parts
            b, n0 = (base + slot) // blocks, (base + slot) % blocks * block
            n1 = min(count, n0 + block)
            # the vertical direction first: it writes the map of this part without a detour
            for turn in range(4 // parts):
                d = p + 4 - parts - turn * parts
                if mode == ALL:
                    target = out[b, d, n0:n1]
                elif p == 0:
                    target = out[b, 0, n0:n1]
                else:
                    target = maps[slot, p - 1, : n1 - n0]
                _forward_direction(
                    x[b, n0:n1],
                    gates[b, d],
                    target,
                    d,
                    mode == ALL or turn == 0,
                    mode,
                    normalise,
                    g_tiles[task],
                    s_tiles[task],
                    x_tiles[task],
                    h_tiles[task],
                    carries[task],
                )
        if mode != ALL:
            for job in prange(now * block * chunks):
                slot, n, chunk = job // (block * chunks), job // chunks % block, job % chunks
                b, n0 = (base + slot) // blocks, (base + slot) % blocks * block
                if n0 + n < count:
                    for r in range(chunk * CHUNK, min(height, chunk * CHUNK + CHUNK)):
                        line = out[b, 0, n0 + n, r]
                        _finish(line, maps[slot, :, n, r], width, mode, parts)


@_jit
def _finish(line, others, width, mode, parts):
    """Merge the maps of the parts, in the same order of additions for two parts as for four."""
    if parts == 2:
        _merge(line, others[0], width, mode)
    else:
        _merge(line, others[1], width, mode)
        _merge(others[0], others[2], width, mode)
        _merge(line, others[0], width, mode)
    if mode == MEAN:
        for l in range(width):
            line[l] *= line.dtype.type(0.25)


def _plan(x: Any) -> tuple[int, int]:
    """Set numba's threads as torch's; return them and the maps of a block."""
    threads = max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(threads)
    size = x.shape[2] * x.shape[3] * x.itemsize
    return threads, max(1, min(x.shape[1], BLOCK_BYTES // size))


def forward(x: Any, gates: Any, merge: str, normalise: bool) -> Any:
    """One round. Arrays x (B, N, H, W) and gates (B, 4, 3, H, W), C-contiguous, float32 or float64,
    nothing empty; returns (B, N, H, W), or (B, 4, N, H, W) for ``all``."""
    mode = MODES[merge]
    batch, count, height, width = x.shape
    out = np.empty((batch, 4 if mode == ALL else 1, count, height, width), x.dtype)
    with _launch:
        threads, block = _plan(x)
        units = batch * -(-count // block)
        parts = 4 if threads >= 4 * 1 and units * 2 < threads else 2
        groups = max(1, min(units, threads // parts))
        padded = max(height, width) // 16 * 16 + 16 + 16
        _forward(x, gates, out, mode, normalise, parts, groups, block, padded)
    return out if mode == ALL else out[:, 0]


# --- backward --------------------------------------------------------------------------------------


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
                _columns(g[j], gates[j], first, size, height, width)
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
                _columns(x_tile, x[n], first, size, height, width)
                _columns(h_tile, h[n], first - step, size, height, width)
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
def _winners(winner, a, b, c, d, width):
    """The direction of the largest value, the first of equals."""
    for l in range(width):
        best, w = a[l], 0
        if b[l] > best:
            best, w = b[l], 1
        if c[l] > best:
            best, w = c[l], 2
        if d[l] > best:
            best, w = d[l], 3
        winner[l] = w


@_jit_parallel
def _backward(grad, x, gates, dx, dgates, mode, normalise, parts, groups, block, lengths):
    """grad (B, K, N, H, W) as `_forward`'s result; `groups` batch entries run at a time, their maps
    in blocks: the four directions are computed again, then scanned back."""
    batch, count, height, width = x.shape
    slots = groups * parts
    floats = np.empty((slots, 11, LINES, lengths), x.dtype)
    carries = np.empty((slots, block + 3, lengths), x.dtype)
    results = np.empty((groups, 4, block, height, width), x.dtype)
    parted = np.empty((groups, parts - 1, block, height, width), x.dtype)
    winners = np.empty((groups, block, height, width), np.uint8)
    chunks = (height + CHUNK - 1) // CHUNK
    for base in range(0, batch, groups):
        now = min(groups, batch - base)
        for n0 in range(0, count, block):
            n1 = min(count, n0 + block)
            for task in prange(now * parts):
                slot, p = task // parts, task % parts
                b, f = base + slot, floats[task]
                for d in range(p, 4, parts):
                    _forward_direction(
                        x[b, n0:n1], gates[b, d], results[slot, d, : n1 - n0], d, True, mode,
                        normalise, f[0:3], f[3], f[4], f[5], carries[task],
                    )
            if mode == MAX:
                for job in prange(now * (n1 - n0) * chunks):
                    slot, n, chunk = (
                        job // ((n1 - n0) * chunks), job // chunks % (n1 - n0), job % chunks
                    )
                    h = results[slot, :, n]
                    for r in range(chunk * CHUNK, min(height, chunk * CHUNK + CHUNK)):
                        _winners(winners[slot, n, r], h[0, r], h[1, r], h[2, r], h[3, r], width)
            for task in prange(now * parts):
                slot, p = task // parts, task % parts
                b = base + slot
                for turn in range(4 // parts):
                    d = p + 4 - parts - turn * parts
                    target = dx[b, n0:n1] if p == 0 else parted[slot, p - 1, : n1 - n0]
                    _backward_direction(
                        grad[b, d if mode == ALL else 0, n0:n1],
                        x[b, n0:n1], results[slot, d, : n1 - n0], gates[b, d],
                        winners[slot, : n1 - n0], target, dgates[b, d], d, turn == 0, n0 > 0,
                        mode, normalise, floats[task], carries[task],
                    )
            for job in prange(now * (n1 - n0) * chunks):
                slot, n, chunk = (
                    job // ((n1 - n0) * chunks), job // chunks % (n1 - n0), job % chunks
                )
                for r in range(chunk * CHUNK, min(height, chunk * CHUNK + CHUNK)):
                    _finish(dx[base + slot, n0 + n, r], parted[slot, :, n, r], width, ALL, parts)


def backward(grad: Any, x: Any, gates: Any, merge: str, normalise: bool) -> tuple[Any, Any]:
    """The gradients of x and gates, given that of :func:`forward`'s result; same requirements."""
    mode = MODES[merge]
    batch, count, height, width = x.shape
    if mode != ALL:
        grad = grad[:, None]
    dx, dgates = np.empty_like(x), np.empty_like(gates)
    with _launch:
        threads, block = _plan(x)
        parts = 4 if threads >= 4 and batch * 2 < threads else 2
        groups = max(1, min(batch, threads // parts))
        padded = max(height, width) // 16 * 16 + 16 + 16
        _backward(grad, x, gates, dx, dgates, mode, normalise, parts, groups, block, padded)
    return dx, dgates
