"""The numba kernels of :mod:`segspn.spn.cpu`: a scan forward, a scan back, transposition, merging.

The equations are those of :mod:`segspn.spn.reference`. What makes them fast:

- Scans know one layout only, ``(.., T, L)``: line after line, contiguous, so that SIMD runs along
  the line. For the horizontal directions maps and gates are transposed as a whole.
- The gates of a line are read once for a block of maps, and normalised on the way.
- Inner loops have one store stream each: with more, LLVM gives up proving that they don't overlap,
  and leaves them scalar.
- Lines are addressed as an array and indices. A view of each would count references, atomically,
  which takes as long as the line itself.

numba's cache looks at this file alone: after a change in `transpose.py`, touch this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from segspn.spn.transpose import prefetch, transpose_add, transpose_copy, transpose_max

COPY, MAX, ADD = 0, 1, 2

# No "fast" beyond fused multiply-add: NaN and infinity in the input must come out.
_options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_jit = njit(cache=True, **_options)
_line_jit = njit(forceinline=True, **_options)


@_line_jit
def _merged(old, new, mode):
    if mode == MAX:
        return new if new > old or new != new else old  # NaN wins, as in torch.max
    return old + new if mode == ADD else new


@_line_jit
def _put(out, n, r, line, k, q, mode):
    """Line q of map k of `line` into line r of map n of `out`."""
    length = out.shape[2]
    # a loop for each mode: LLVM does not always take the choice out of the loop by itself
    if mode == COPY:
        for l in range(length):
            out[n, r, l] = line[k, q, l]
    elif mode == MAX:
        for l in range(length):
            out[n, r, l] = _merged(out[n, r, l], line[k, q, l], MAX)
    else:
        for l in range(length):
            out[n, r, l] += line[k, q, l]


@_jit
def transpose(target, source, mode, start, stop):
    """target (N, W, H) = source (N, H, W) transposed, or merged with it: the source's rows from
    `start` to `stop`."""
    count, _, width = source.shape
    square = 64 // source.itemsize
    wide = 4 * square  # columns at a time: a few lines of cache in each of the source's pages
    rows, columns = start + (stop - start) // square * square, width // square * square
    for n in range(count):
        for first in range(0, columns, wide):
            for r in range(start, rows, square):
                for c in range(first, min(columns, first + wide), square):
                    to, of = target[n], source[n]
                    ahead = 2 * square
                    if mode == COPY:
                        transpose_copy(to, c, r, of, r, c, ahead, ahead * width)
                    elif mode == MAX:
                        transpose_max(to, c, r, of, r, c, ahead, ahead * width)
                    else:
                        transpose_add(to, c, r, of, r, c, ahead, ahead * width)
        for r in range(start, stop):
            for c in range(columns if r < rows else 0, width):
                target[n, c, r] = _merged(target[n, c, r], source[n, r, c], mode)


@_line_jit
def _fetch_line(maps, n, r):
    """The hardware follows rising addresses by itself; from line to line backwards it has to be
    told, or each line starts with misses: twice the time in all."""
    for l in range(0, maps.shape[2], 64 // maps.itemsize):
        prefetch(maps, n, r, l)


# --- forward --------------------------------------------------------------------------------------


@_line_jit
def _pixel(x, xr, prev, pr, g, r, n, l, normalise):  # one pixel, whatever neighbours it has
    one = x.dtype.type(1)
    a, b, c, v = g[0, r, l], g[1, r, l], g[2, r, l], x[n, xr, l]
    step = b * (prev[n, pr, l] - v)
    if l > 0:
        step += a * (prev[n, pr, l - 1] - v)
    if l + 1 < x.shape[2]:
        step += c * (prev[n, pr, l + 1] - v)
    if normalise:
        step *= one / max(one, abs(a) + abs(b) + abs(c))
    return v + step


@_line_jit
def _line(h, hr, x, r, prev, pr, g, n, normalise):
    """h = x + sum_j g_j (prev[l + j] - x)."""
    one, last = x.dtype.type(1), x.shape[2] - 1
    h[n, hr, 0] = _pixel(x, r, prev, pr, g, r, n, 0, normalise)
    for l in range(1, last):
        a, b, c, v = g[0, r, l], g[1, r, l], g[2, r, l], x[n, r, l]
        step = a * (prev[n, pr, l - 1] - v) + b * (prev[n, pr, l] - v)
        step += c * (prev[n, pr, l + 1] - v)
        if normalise:
            step *= one / max(one, abs(a) + abs(b) + abs(c))
        h[n, hr, l] = v + step
    h[n, hr, last] = _pixel(x, r, prev, pr, g, r, n, last, normalise)


@_jit
def scan(x, gates, out, step, mode, normalise):
    """One direction of maps x (N, T, L) with gates (3, T, L) into out (N, T, L); `step` is 1 from
    the first line to the last, -1 back. `mode` says how to merge with what is in `out`."""
    count, lines, length = x.shape
    pair = np.empty((count, 2, length), x.dtype)
    for i in range(lines):
        r = i if step == 1 else lines - 1 - i
        if step == -1:
            for j in range(3):
                _fetch_line(gates, j, r - 2)
        for n in range(count):
            if step == -1:
                _fetch_line(x, n, r - 2)
                _fetch_line(out, n, r - 2)
            if mode == COPY:
                if i == 0:
                    _put(out, n, r, x, n, r, COPY)
                else:
                    _line(out, r, x, r, out, r - step, gates, n, normalise)
            else:
                if i == 0:
                    _put(pair, n, 0, x, n, r, COPY)
                else:
                    _line(pair, i % 2, x, r, pair, 1 - i % 2, gates, n, normalise)
                _put(out, n, r, pair, n, i % 2, mode)


# --- backward -------------------------------------------------------------------------------------


@_jit
def share(grad, down, up, sideways, vertical):
    """Who gets the gradient of a maximum: `sideways` holds the larger of the horizontal directions
    and is replaced by their share, `vertical` becomes the other's. All (N, H, W)."""
    count, height, width = grad.shape
    zero = grad.dtype.type(0)
    for n in range(count):
        for r in range(height):
            for l in range(width):
                most = max(down[n, r, l], up[n, r, l])
                vertical[n, r, l] = grad[n, r, l] if most > sideways[n, r, l] else zero
            for l in range(width):
                sideways[n, r, l] = grad[n, r, l] - vertical[n, r, l]


@_line_jit
def _gates(g, now, gates, r, factor, normalise):
    """Line r of the gates times 1 / max(1, s); the factor is negative where s < 1."""
    one = g.dtype.type(1)
    for l in range(g.shape[2]):
        s = abs(gates[0, r, l]) + abs(gates[1, r, l]) + abs(gates[2, r, l])
        factor[l] = -one if s < one or not normalise else one / s
    for j in range(3):
        for l in range(g.shape[2]):
            g[j, now, l] = gates[j, r, l] * abs(factor[l])


@_line_jit
def _error(error, now, grad, own, other, n, r, step, masked, scale):
    """The gradient that reaches this direction's result: of two opposite directions with the same
    result, the first has it."""
    zero = error.dtype.type(0)
    if not masked:
        for l in range(error.shape[2]):
            error[n, now, l] = grad[n, r, l] * scale
    elif step == 1:
        for l in range(error.shape[2]):
            error[n, now, l] = grad[n, r, l] if own[n, r, l] >= other[n, r, l] else zero
    else:
        for l in range(error.shape[2]):
            error[n, now, l] = grad[n, r, l] if own[n, r, l] > other[n, r, l] else zero


@_line_jit
def _pull(error, now, g, n):
    """error_t[l] += sum_j g_j,t+1[l - j] error_t+1[l - j]: what the next line took from this."""
    to, e = 1 - now, error.shape[2] - 1
    error[n, now, 0] += g[1, to, 0] * error[n, to, 0]
    if e > 0:
        error[n, now, 0] += g[0, to, 1] * error[n, to, 1]
        error[n, now, e] += g[1, to, e] * error[n, to, e] + g[2, to, e - 1] * error[n, to, e - 1]
    for l in range(1, e):
        u = g[0, to, l + 1] * error[n, to, l + 1] + g[1, to, l] * error[n, to, l]
        error[n, now, l] += u + g[2, to, l - 1] * error[n, to, l - 1]


@_line_jit
def _to_input(dx, r, error, now, g, n, mode):
    """dx = (1 - sum_j g_j) error, over the gates that have a neighbour."""
    one, e = dx.dtype.type(1), dx.shape[2] - 1
    if mode == COPY:
        for l in range(dx.shape[2]):
            rest = one - (g[0, now, l] + g[1, now, l] + g[2, now, l])
            dx[n, r, l] = error[n, now, l] * rest
    else:
        for l in range(dx.shape[2]):
            rest = one - (g[0, now, l] + g[1, now, l] + g[2, now, l])
            dx[n, r, l] += error[n, now, l] * rest
    dx[n, r, 0] += error[n, now, 0] * g[0, now, 0]
    dx[n, r, e] += error[n, now, e] * g[2, now, e]


@_line_jit
def _to_gates(dg, error, now, h, before, x, r, n):
    """dg_j += error (h[l + j] of the line before - x)."""
    for l in range(1, dg.shape[2]):
        dg[0, 0, l] += error[n, now, l] * (h[n, before, l - 1] - x[n, r, l])
    for l in range(dg.shape[2]):
        dg[1, 0, l] += error[n, now, l] * (h[n, before, l] - x[n, r, l])
    for l in range(dg.shape[2] - 1):
        dg[2, 0, l] += error[n, now, l] * (h[n, before, l + 1] - x[n, r, l])


@_line_jit
def _through_norm(dg, g, now, factor, dot):
    """dĝ_j = (dg_j - sign(ĝ_j) sum_i dg_i g_i) / s, the second term where s >= 1."""
    zero = dot.dtype.type(0)
    for l in range(len(dot)):
        u = dg[0, 0, l] * g[0, now, l] + dg[1, 0, l] * g[1, now, l] + dg[2, 0, l] * g[2, now, l]
        dot[l] = u if factor[l] > zero else zero
    for j in range(3):
        for l in range(len(dot)):
            v, u = g[j, now, l], dot[l]
            signed = u if v > zero else (-u if v < zero else zero)
            dg[j, 0, l] = (dg[j, 0, l] - signed) * abs(factor[l])


@_jit
def scan_back(
    grad, x, own, other, gates, dx, dgates, step, x_mode, gates_mode, masked, scale, normalise
):
    """One direction back. grad (of the merged map), x, dx (N, T, L), gates, dgates (3, T, L); `own`
    is this direction's result, `other` that of the opposite one (looked at if `masked`). The modes
    say whether dx and dgates are written or added to."""
    count, lines, length = x.shape
    error, g = np.empty((count, 2, length), x.dtype), np.empty((3, 2, length), x.dtype)
    factor, dot = np.empty(length, x.dtype), np.empty(length, x.dtype)
    dg = np.empty((3, 1, length), x.dtype)
    for i in range(lines):
        r, now = lines - 1 - i if step == 1 else i, i % 2
        _gates(g, now, gates, r, factor, normalise)
        dg[:] = 0
        if step == 1:
            for j in range(3):
                _fetch_line(gates, j, r - 2)
                _fetch_line(dgates, j, r - 2)
        for n in range(count):
            if step == 1:
                for maps in (grad, x, own, other, dx):
                    _fetch_line(maps, n, r - 2)
            _error(error, now, grad, own, other, n, r, step, masked, scale)
            if i > 0:
                _pull(error, now, g, n)
            if i == lines - 1:
                _put(dx, n, r, error, n, now, x_mode)  # the first line: H = X
            else:
                _to_input(dx, r, error, now, g, n, x_mode)
                _to_gates(dg, error, now, own, r - step, x, r, n)
        if normalise:
            _through_norm(dg, g, now, factor, dot)
        for j in range(3):
            _put(dgates, j, r, dg, j, 0, gates_mode)
