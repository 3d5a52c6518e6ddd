"""The numba kernels of :mod:`segspn.spn.cpu`: one direction forward, one direction back, merging.

The equations are those of :mod:`segspn.spn.reference`. What makes them fast:

- Every scan walks lines that are contiguous in memory, so that SIMD runs along the line. For the
  horizontal directions a line is a column: a tile of columns is transposed into scratch
  that stays in the second-level cache, scanned there in place, and the result is transposed back.
- Gates are read once for a block of maps, and normalised on the way. One map alone normalises
  inside the scan itself; more maps share a tile of normalised gates, and four of them are scanned side
  by side, so that each gate is loaded once for all four (`scan_line`).
- Other inner loops have one store stream each: with more, LLVM gives up proving that they don't
  overlap, and leaves them scalar.

numba's cache looks at this file alone: touch it after a change in `transpose.py` or `scan_line.py`.
"""

from __future__ import annotations

from typing import Any

from segspn.compiled import njit
from segspn.spn.scan_line import ADD, COPY, KEEP, MAXIMUM, liner
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

TOGETHER = 4  # maps that are scanned side by side; of more the registers would not hold what they need


def _line(merge: str) -> Any:
    """A line of `some` maps, `TOGETHER` or one; `raw`: one, by gates that are yet to be normalised."""
    together, alone = (liner(maps, merge, False) for maps in (TOGETHER, 1))
    by_raw_gates = liner(1, merge, True)

    @_line_jit
    def line(some, raw, h, r, q, x, n, k, g, gr, length, out, o):
        if some > 1:
            together(h, r, q, x, n, k, g, gr, length, out, n, o)
        elif raw:
            by_raw_gates(h, r, q, x, n, k, g, gr, length, out, n, o)
        else:
            alone(h, r, q, x, n, k, g, gr, length, out, n, o)

    return line


_line_kept, _line_copied, _line_max, _line_added = (_line(m) for m in (KEEP, COPY, MAXIMUM, ADD))


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

# Rows that are fetched ahead of the columns of a tile, each in another page of memory. As far ahead as
# the next map's tile would drive out of the second-level cache what is scanned now.
DOWN = 32


@_line_jit
def _rows_ahead(n, some, count, maps, step, rows):
    """How far from a tile of rows of map n, of `some` that are scanned together, the one is that should
    be fetched meanwhile: the same tile of the maps after them, after the last the next tile of the
    first; with one map, the next row but one. In elements: maps are contiguous."""
    _, height, width = maps.shape
    if count == 1:
        return 2 * step * width
    if n + some < count:
        return some * height * width
    return step * rows * width - n * height * width


@_line_jit
def _fetch_line(maps, r, ahead):
    """What is `ahead` elements from line r. The hardware follows rising addresses by itself; going
    back, or from map to map, it has to be told, or each line starts with misses."""
    for l in range(ahead, ahead + maps.shape[1], 64 // maps.itemsize):
        prefetch(maps, r, l)  # type: ignore[call-arg]


@_jit
def _columns(tile, source, first, count, height, width):
    """tile[i, r] = source[r, first + i]; columns outside the map are left alone."""
    square = 64 // tile.itemsize
    low, high = max(0, -first), min(count, width - first)
    whole = (high - low) // square * square
    down = height // square * square
    for r in range(0, down, square):
        for i in range(low, low + whole, square):
            transpose_load(tile, i, r, source, r, first + i, DOWN * width)
        for s in range(r, r + square):
            for i in range(low + whole, high):
                tile[i, s] = source[s, first + i]
    for r in range(down, height):
        for i in range(low, high):
            tile[i, r] = source[r, first + i]


@_jit
def _columns_back(target, tile, first, count, height, start, mode):
    """The inverse of `_columns`; merges into what is there unless `start`."""
    square, ahead = 64 // tile.itemsize, DOWN * target.shape[1]
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
def _gates(tile, factor, gates, first, count, horizontal, normalise):
    """The gates (3, H, W) of `count` lines into `tile` (3, lines, ..); if `normalise`, times
    `factor` = 1 / max(1, s), which is negative where s < 1, so that the backward can tell."""
    _, height, width = gates.shape
    length = height if horizontal else width
    for j in range(3):
        if horizontal:
            _columns(tile[j], gates[j], first, count, height, width)
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
def forward_direction(x, gates, out, d, start, mode, normalise, g_tile, s_tile, h_tile, carry):
    """One direction of maps x (N, H, W) with gates (3, H, W) into out (N, H, W).

    Scratch: g_tile (3, most, length), s_tile (most, length), carry (N, length), and h_tile
    (TOGETHER, most + 2, length). Of columns it holds all lines of a tile, in place, between one on each
    side, for the last one of the tile before; of rows the newest line and the one before it in turn.
    """
    count, height, width = x.shape
    horizontal = d < 2
    lines, length = (width, height) if horizontal else (height, width)
    step, most = 1 if d % 2 == 0 else -1, len(s_tile)
    tiles = (lines + most - 1) // most
    shared = normalise and count > 1
    raw = normalise and not shared
    for k in range(tiles):
        first = (k if step == 1 else tiles - 1 - k) * most
        size = min(most, lines - first)
        before, last = 0, size % 2
        if horizontal:
            before, last = (0, size) if step == 1 else (size + 1, 1)
        g, g_row = gates, first
        if horizontal or shared:
            _gates(g_tile, s_tile, gates, first, size, horizontal, shared)
            g, g_row = g_tile, 0
        n = 0
        while n < count:
            some = TOGETHER if count - n >= TOGETHER else 1
            for i in range(some):
                if k > 0:
                    _copy(h_tile[i], before, carry, n + i, length)
                if horizontal:
                    _columns(h_tile[i, 1:], x[n + i], first, size, height, width)
            if horizontal:
                _scan_columns(h_tile, g, size, length, step, some, k == 0, raw)
            else:
                ahead = _rows_ahead(n, some, count, x, step, most)
                places = (n, first, g_row, size, length, ahead)
                _scan_rows(h_tile, x, out, g, places, step, some, k == 0, raw, start, mode)
            for i in range(some):
                _copy(carry, n + i, h_tile[i], last, length)
                if horizontal:
                    tile = h_tile[i, 1:]
                    _columns_back(out[n + i], tile, first, size, height, start, mode)
            n += some


@_line_jit
def _scan_columns(h, g, size, length, step, some, begins, raw):
    """The lines of a tile, in place."""
    for i in range(1 if begins else 0, size):
        m = i if step == 1 else size - 1 - i
        r, q = m + 1, m + 1 - step
        _line_kept(some, raw, h, r, q, h, 0, r, g, m, length, h, r)


@_line_jit
def _scan_rows(h, x, out, g, places, step, some, begins, raw, start, mode):
    """The lines of a tile from x into h, and from there into out."""
    n, first, g_row, size, length, ahead = places
    for i in range(size):
        m = i if step == 1 else size - 1 - i
        r, q, row, gr = (i + 1) % 2, i % 2, first + m, g_row + m
        if some > 1 or step == -1:
            for j in range(some):
                _fetch_line(x[n + j], row, ahead)
                _fetch_line(out[n + j], row, ahead)
            for j in range(3 if raw else 0):
                _fetch_line(g[j], gr, ahead)
        if begins and i == 0:
            for j in range(some):
                _copy(h[j], r, x[n + j], row, length)
                if start:
                    _copy(out[n + j], row, h[j], r, length)
                else:
                    _merge(out[n + j], row, h[j], r, length, mode)
        elif start:
            _line_copied(some, raw, h, r, q, x, n, row, g, gr, length, out, row)
        elif mode == MAX:
            _line_max(some, raw, h, r, q, x, n, row, g, gr, length, out, row)
        else:
            _line_added(some, raw, h, r, q, x, n, row, g, gr, length, out, row)


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
        _gates(g, factor, gates, first, size, horizontal, normalise)
        dg[:] = zero
        for n in range(count):
            xs, hs, dy, won, row, h_row = x[n], h[n], grad[n], winner[n], first, first - step
            if horizontal:
                _columns(x_tile, xs, first, size, height, width)
                _columns(h_tile, hs, h_row, size, height, width)
                _columns(y_tile, dy, first, size, height, width)
                if mode == MAX:
                    _columns(w_tile, won, first, size, height, width)
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
            _lines_back(dx[n], dx_tile, first, size, horizontal, start)
        for j in range(3):
            _copy(after[j], 0, g[j], 0 if step == 1 else size - 1, length)
        if normalise:
            _through_norm(dg, g, factor, dx_tile, size, length)
        for j in range(3):
            _lines_back(dgates[j], dg[j], first, size, horizontal, not add)


@_jit
def _lines_back(target, tile, first, count, horizontal, start):
    """Write or add the lines of a tile to the map they belong to."""
    height, width = target.shape
    if horizontal:
        _columns_back(target, tile, first, count, height, start, MEAN)
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
