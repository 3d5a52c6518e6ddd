"""The numba kernels of :mod:`segspn.spn.cpu`: one direction forward, one direction back, merging.

The equations are those of :mod:`segspn.spn.reference`. What makes them fast:

- Every scan walks lines that are contiguous in memory, so that SIMD runs along the line. For the
  horizontal directions a line is a column: a tile of columns is transposed into scratch
  that stays in the second-level cache, scanned there in place, and the result is transposed back.
- Gates are read once for a block of maps, and normalised on the way. One map alone normalises
  inside the scan itself; more maps share a tile of normalised gates.
- Inner loops have one store stream each: with more, LLVM gives up proving that they don't overlap,
  and leaves them scalar.

numba's cache looks at this file alone: after a change in `transpose.py`, touch this one.
"""

from __future__ import annotations

from typing import Any

from segspn.compiled import njit
from segspn.spn.transpose import (
    prefetch,
    transpose_add,
    transpose_copy,
    transpose_load,
    transpose_max,
)

MAX, MEAN, ALL = 0, 1, 2

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


@_line_jit
def _ahead(n, count, maps, step, columns, lines):
    """How far from a tile of map n the one is that should be fetched meanwhile: the same tile of
    the next map, after the last the next tile of the first; with one map, the next tile but one.
    In elements: maps are contiguous, so that a column beyond the map is a row further on."""
    _, height, width = maps.shape
    if count == 1:
        return 2 * step * (lines if columns else width)
    tile = step * lines * (1 if columns else width)
    return height * width if n + 1 < count else tile - n * height * width


@_line_jit
def _fetch_line(maps, r, ahead):
    """What is `ahead` elements from line r. The hardware follows rising addresses by itself; going
    back, or from map to map, it has to be told, or each line starts with misses."""
    for l in range(ahead, ahead + maps.shape[1], 64 // maps.itemsize):
        prefetch(maps, r, l)  # type: ignore[call-arg]


@_jit
def _columns(tile, source, first, count, height, width, ahead):
    """tile[i, r] = source[r, first + i]; columns outside the map are left alone. What is
    `ahead` columns further on is fetched meanwhile."""
    square = 64 // tile.itemsize
    low, high = max(0, -first), min(count, width - first)
    whole = (high - low) // square * square
    down = height // square * square
    for r in range(0, down, square):
        for i in range(low, low + whole, square):
            transpose_load(tile, i, r, source, r, first + i, ahead)
        for s in range(r, r + square):
            for i in range(low + whole, high):
                tile[i, s] = source[s, first + i]
    for r in range(down, height):
        for i in range(low, high):
            tile[i, r] = source[r, first + i]


@_jit
def _columns_back(target, tile, first, count, height, start, mode, ahead):
    """The inverse of `_columns`; merges into what is there unless `start`."""
    square = 64 // tile.itemsize
    whole = count // square * square
    down = height // square * square
    for r in range(0, down, square):
        for i in range(0, whole, square):
            if start:
                transpose_copy(target, r, first + i, tile, i, r, ahead)
            elif mode == MAX:
                transpose_max(target, r, first + i, tile, i, r, ahead)
            else:
                transpose_add(target, r, first + i, tile, i, r, ahead)
    for r in range(height):
        for i in range(whole if r < down else 0, count):
            u, v = target[r, first + i], tile[i, r]
            if start:
                target[r, first + i] = v
            elif mode == MAX:
                target[r, first + i] = v if v > u or v != v else u
            else:
                target[r, first + i] = u + v


@_jit
def _gates(tile, factor, gates, first, count, horizontal, normalise, step):
    """The gates (3, H, W) of `count` lines into `tile` (3, lines, ..); if `normalise`, times
    `factor` = 1 / max(1, s), which is negative where s < 1, so that the backward can tell."""
    _, height, width = gates.shape
    length = height if horizontal else width
    for j in range(3):
        if horizontal:
            ahead = _ahead(0, 1, gates, step, True, len(factor))
            _columns(tile[j], gates[j], first, count, height, width, ahead)
        else:
            for i in range(count):
                _copy(tile[j], i, gates[j], first + i, length)
    if normalise:
        one = tile.dtype.type(1)
        for i in range(count):
            for l in range(length):
                s = abs(tile[0, i, l]) + abs(tile[1, i, l]) + abs(tile[2, i, l])
                factor[i, l] = -one if s < one else one / s
            for j in range(3):
                for l in range(length):
                    tile[j, i, l] *= abs(factor[i, l])


# --- forward --------------------------------------------------------------------------------------


@_jit
def forward_direction(x, gates, out, d, start, mode, normalise, g_tile, s_tile, x_tile, h_tile, carry):
    """One direction of maps x (N, H, W) with gates (3, H, W) into out (N, H, W)."""
    count, height, width = x.shape
    horizontal = d < 2
    lines, length = (width, height) if horizontal else (height, width)
    step, most = 1 if d % 2 == 0 else -1, len(x_tile)
    tiles = (lines + most - 1) // most
    shared = normalise and count > 1
    for k in range(tiles):
        first = (k if step == 1 else tiles - 1 - k) * most
        size = min(most, lines - first)
        g, g_row = gates, first
        if horizontal or shared:
            _gates(g_tile, s_tile, gates, first, size, horizontal, shared, step)
            g, g_row = g_tile, 0
        for n in range(count):
            ahead = _ahead(n, count, x, step, horizontal, most)
            xs, h, h_row = x[n], out[n], first
            if horizontal:
                _columns(x_tile, xs, first, size, height, width, ahead)
                h, h_row = x_tile, 0
            elif not start:
                h, h_row = h_tile, 0
            fused = normalise and not shared
            for i in range(size):
                m = i if step == 1 else size - 1 - i
                if horizontal:  # two lines of h, which stay in the first-level cache
                    q = m % 2
                    if i > 0:
                        _line(h_tile, q, x_tile, m, h_tile, 1 - q, g_tile, m, length, fused)
                    elif k > 0:
                        _line(h_tile, q, x_tile, m, carry, n, g_tile, m, length, fused)
                    else:
                        _copy(h_tile, q, x_tile, m, length)
                    _copy(x_tile, m, h_tile, q, length)
                    continue
                if count > 1 or step == -1:
                    _fetch_line(x[n], first + m, ahead)
                    _fetch_line(out[n], first + m, ahead)
                    if not shared:
                        for j in range(3):
                            _fetch_line(gates[j], first + m, ahead)
                if k == 0 and i == 0:
                    _copy(h, h_row + m, xs, first + m, length)
                elif i == 0:
                    _line(h, h_row + m, xs, first + m, carry, n, g, g_row + m, length, fused)
                else:
                    q = h_row + m - step
                    _line(h, h_row + m, xs, first + m, h, q, g, g_row + m, length, fused)
            _copy(carry, n, h, h_row + (size - 1 if step == 1 else 0), length)
            if horizontal:
                _columns_back(out[n], h, first, size, height, start, mode, ahead)
            elif not start:
                for m in range(size):
                    _merge(out[n], first + m, h, m, length, mode)


@_jit
def finish(out, maps, mode):
    """Merge `maps` (P - 1, N, H, W), the parts but the first, into `out` (N, H, W), the first; the
    additions are in the same order for two parts as for four. With one part there is no other."""
    count, height, width = out.shape
    for n in range(count):
        o = out[n]
        for r in range(height):
            if len(maps) == 1:
                _merge(o, r, maps[0, n], r, width, mode)
            elif len(maps) == 3:
                _merge(o, r, maps[1, n], r, width, mode)
                _merge(maps[0, n], r, maps[2, n], r, width, mode)
                _merge(o, r, maps[0, n], r, width, mode)
            if mode == MEAN:
                for l in range(width):
                    o[r, l] *= o.dtype.type(0.25)


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
def _through_norm(dg, g, factor, dot, count, length):
    """dg to dĝ = (dg_j - sign(ĝ_j) sum_i dg_i g_i) / s, the second term where s >= 1."""
    zero = dot.dtype.type(0)
    for m in range(count):
        for l in range(length):
            u = dg[0, m, l] * g[0, m, l] + dg[1, m, l] * g[1, m, l] + dg[2, m, l] * g[2, m, l]
            dot[0, l] = u if factor[m, l] > zero else zero
        for j in range(3):
            for l in range(length):
                v, u = g[j, m, l], dot[0, l]
                signed = u if v > zero else (-u if v < zero else zero)
                dg[j, m, l] = (dg[j, m, l] - signed) * abs(factor[m, l])


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
def backward_direction(
    grad, x, h, gates, winner, dx, dgates, d, start, add, mode, normalise, floats, errors
):
    """One direction back: grad, x, h, dx (N, H, W), winner (N, H, W), gates, dgates (3, H, W).

    `start`: dx is written, else added to; `add`: dgates is added to, else written. `floats` is
    scratch of 16 tiles, `errors` the lines carried from tile to tile, (N, length).
    """
    count, height, width = x.shape
    horizontal = d < 2
    lines, length = (width, height) if horizontal else (height, width)
    step, most = 1 if d % 2 == 0 else -1, floats.shape[1]
    tiles = (lines + most - 1) // most
    g, dg = floats[0:3], floats[3:6]
    factor, x_tile, h_tile, y_tile = floats[6], floats[7], floats[8], floats[9]
    w_tile, e_tile, dx_tile, after = floats[10], floats[11], floats[12], floats[13:16]
    zero, scale = x.dtype.type(0), x.dtype.type(0.25 if mode == MEAN else 1)
    for k in range(tiles):
        first = (tiles - 1 - k if step == 1 else k) * most
        size = min(most, lines - first)
        _gates(g, factor, gates, first, size, horizontal, normalise, -step)
        dg[:] = zero
        for n in range(count):
            ahead = _ahead(n, count, x, -step, horizontal, most)
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
            _through_norm(dg, g, factor, dx_tile, size, length)
        for j in range(3):
            ahead = _ahead(0, 1, gates, -step, True, most)
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
def winners(winner, results):
    """The direction of the largest of `results` (4, N, H, W), the first of equals; as a float,
    because it is transposed like the rest."""
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
