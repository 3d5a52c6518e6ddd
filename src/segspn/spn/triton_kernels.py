"""The Triton kernels of :mod:`segspn.spn.cuda`: scan, scan back, and what goes on between the two.

The equations are those of :mod:`segspn.spn.reference`; everything is computed in float32.

Two layouts. *Maps* are (.., H, W). *Lines* are what a scan walks: for the vertical directions the
rows of the map, for the horizontal ones its columns, stored as rows of the transposed map; in both
a line starts at a multiple of 16 elements (its pitch), so that it is read in whole vectors. What is
beyond the end of a line is never written on purpose and may hold anything, NaN included: it is
computed with, and kept from the lanes inside by masks. Results and errors of the four directions
lie in one buffer: (2, M, W, pitch_h), then (2, M, H, pitch_w), for M = B * N maps.

A scan is one program per direction and block of maps, whole lines at a time, with four neighbouring
lanes to a thread. The previous line stays in registers. Of its neighbours l - 1 and l + 1, only
those at the ends of a thread's four are elsewhere; `tl.gather` exchanges them through shared memory
and the compiler places the barriers on both sides of it. So nothing is handed on through global
memory, no program reads what another writes, and there is no race to reason about. A barrier
written here (`tl.debug_barrier`) would also have kept the compiler from loading lines ahead, which
`num_stages` makes it do with asynchronous copies.

Importing this module imports triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

MAX, MEAN, ALL = 0, 1, 2

# Sizes that no code is compiled anew for, be they 1 or a multiple of 16. (Of pitches and whatever else
# addresses of vectors are made from, triton has to know that they are multiples of 16.)
_SIZES = ["batch", "count", "maps", "height", "width", "batch_stride"]

_MAX = tl.constexpr(MAX)
_MEAN = tl.constexpr(MEAN)
_ALL = tl.constexpr(ALL)


# --- lines ----------------------------------------------------------------------------------------


@triton.jit
def _quads(line, BLOCK: tl.constexpr, LANES: tl.constexpr):
    """A line (BLOCK, LANES) as its lanes 0, 1, 2, 3 of every four, each (BLOCK, LANES / 4)."""
    even, odd = tl.split(tl.reshape(line, [BLOCK, LANES // 4, 2, 2]))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def _unquads(first, second, third, fourth, BLOCK: tl.constexpr, LANES: tl.constexpr):
    both = tl.join(tl.join(first, third), tl.join(second, fourth))
    return tl.reshape(both, [BLOCK, LANES])


@triton.jit
def _exchange(low, high, BLOCK: tl.constexpr, LANES: tl.constexpr):
    """`high` of the four before and `low` of the four after, (BLOCK, LANES / 4) each.

    One gather: in the row low_0, high_0, low_1, high_1, .. each value swaps with the neighbour that
    is not its own pair. The ends of a line get something else, for the caller to mask. All lines in
    one row, since the compiler would make a gather in two dimensions local to a warp: a thousand
    shuffles instead of a store and two loads.
    """
    pairs = tl.reshape(tl.join(low, high), [BLOCK * LANES // 2])
    i = tl.arange(0, BLOCK * LANES // 2)
    swapped = tl.where(i % 2 == 0, i - 1, i + 1)
    swapped = tl.minimum(tl.maximum(swapped, 0), BLOCK * LANES // 2 - 1)
    return tl.split(tl.reshape(tl.gather(pairs, swapped, 0), [BLOCK, LANES // 4, 2]))


@triton.jit
def _load_gates(gates, plane, offset, mask, NORMALISE: tl.constexpr):
    """The three gates at an offset of their planes, and what normalising multiplies them by."""
    a = tl.load(gates + offset, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(gates + plane + offset, mask=mask, other=0.0).to(tl.float32)
    c = tl.load(gates + 2 * plane + offset, mask=mask, other=0.0).to(tl.float32)
    if NORMALISE:
        scale = 1.0 / tl.maximum(tl.abs(a) + tl.abs(b) + tl.abs(c), 1.0)
    else:
        scale = 1.0
    return a, b, c, scale


@triton.jit
def _start(d, maps, height, width, pitch_h, pitch_w):
    """Where direction d begins in the buffer of the four."""
    across = width.to(tl.int64) * pitch_h * maps
    down = height.to(tl.int64) * pitch_w * maps
    return tl.where(d < 2, d * across, 2 * across + (d - 2) * down)


# --- the scans ------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=_SIZES)
def scan(
    x_across,  # (B, N, W, pitch_h)
    x_down,  # (B, N, H, pitch_w)
    gates_across,  # (B, 2, 3, W, pitch_h)
    gates_down,  # (B, 2, 3, H, pitch_w), the batches `down_batch` apart
    results,  # of the four directions
    batch,
    count,
    height,
    width,
    pitch_h,
    pitch_w,
    down_batch,
    NORMALISE: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One direction of BLOCK maps. Grid (4 B, ceil(N / BLOCK))."""
    d = tl.program_id(0) % 4
    b = (tl.program_id(0) // 4).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    lane = tl.arange(0, LANES)[None, :]
    if d < 2:
        lines, length, pitch = width, height, pitch_h
        plane = width.to(tl.int64) * pitch_h
        x = x_across
        gates = gates_across + (b * 2 + d) * 3 * plane
    else:
        lines, length, pitch = height, width, pitch_w
        plane = height.to(tl.int64) * pitch_w
        x = x_down
        gates = gates_down + b * down_batch + (d - 2) * 3 * plane
    step = tl.where(d % 2 == 0, 1, -1)
    first = tl.where(d % 2 == 0, 0, lines - 1)
    own = (b * count + n) * plane + lane
    out = results + _start(d, batch * count, height, width, pitch_h, pitch_w)
    in_pitch = lane < pitch
    mask = (n < count) & in_pitch

    h = tl.load(x + own + first * pitch, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + own + first * pitch, h, mask=mask)
    for t in tl.range(1, lines, num_stages=STAGES):
        at = (first + t * step) * pitch
        v = tl.load(x + own + at, mask=mask, other=0.0).to(tl.float32)
        a, b_, c, scale = _load_gates(gates, plane, at + lane, in_pitch, NORMALISE)
        h0, h1, h2, h3 = _quads(h, BLOCK, LANES)
        before, after = _exchange(h0, h3, BLOCK, LANES)
        left = tl.where(lane > 0, _unquads(before, h0, h1, h2, BLOCK, LANES), v)
        right = tl.where(lane < length - 1, _unquads(h1, h2, h3, after, BLOCK, LANES), v)
        h = v + scale * (a * (left - v) + b_ * (h - v) + c * (right - v))
        tl.store(out + own + at, h, mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def scan_back(
    errors,  # of the four directions, float32: those of the results in, those that reach H out
    gates_across,
    gates_down,
    batch,
    count,
    height,
    width,
    pitch_h,
    pitch_w,
    down_batch,
    NORMALISE: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The recurrence of the errors, in place. Grid (4 B, ceil(N / BLOCK)).

    In place is safe: a value is read and overwritten by the same program, and only values of lines
    still to come are loaded ahead.
    """
    d = tl.program_id(0) % 4
    b = (tl.program_id(0) // 4).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    lane = tl.arange(0, LANES)[None, :]
    if d < 2:
        lines, length, pitch = width, height, pitch_h
        plane = width.to(tl.int64) * pitch_h
        gates = gates_across + (b * 2 + d) * 3 * plane
    else:
        lines, length, pitch = height, width, pitch_w
        plane = height.to(tl.int64) * pitch_w
        gates = gates_down + b * down_batch + (d - 2) * 3 * plane
    step = tl.where(d % 2 == 0, -1, 1)
    first = tl.where(d % 2 == 0, lines - 1, 0)
    own = (b * count + n) * plane + lane
    errors += _start(d, batch * count, height, width, pitch_h, pitch_w)
    in_pitch = lane < pitch
    mask = (n < count) & in_pitch

    error = tl.load(errors + own + first * pitch, mask=mask, other=0.0)
    for t in tl.range(1, lines, num_stages=STAGES):
        at = (first + t * step) * pitch
        own_error = tl.load(errors + own + at, mask=mask, other=0.0)
        a, b_, c, scale = _load_gates(gates, plane, at - step * pitch + lane, in_pitch, NORMALISE)
        error *= scale
        # What goes one lane down and one lane up; lane `length` is garbage, and must not come back.
        down = tl.where((lane > 0) & (lane < length), a * error, 0.0)
        up = tl.where(lane < length - 1, c * error, 0.0)
        down0, down1, down2, down3 = _quads(down, BLOCK, LANES)
        up0, up1, up2, up3 = _quads(up, BLOCK, LANES)
        before, after = _exchange(down0, up3, BLOCK, LANES)
        # No lane is below the first or above the last, where the exchange gives their own values.
        before = tl.where(tl.arange(0, LANES // 4)[None, :] > 0, before, 0.0)
        after = tl.where(tl.arange(0, LANES // 4)[None, :] < LANES // 4 - 1, after, 0.0)
        from_below = _unquads(before, up0, up1, up2, BLOCK, LANES)
        from_above = _unquads(down1, down2, down3, after, BLOCK, LANES)
        error = own_error + b_ * error + from_below + from_above
        tl.store(errors + own + at, error, mask=mask)


# --- between lines and maps -----------------------------------------------------------------------


@triton.jit(do_not_specialize=_SIZES)
def to_columns(source, columns, count, height, width, pitch, batch_stride, TILE: tl.constexpr):
    """Maps (B, count, H, W), the batches apart as told, to (B, count, W, pitch). Tiles of both are
    read and written along their own rows. Grid (B count, H / TILE, W / TILE)."""
    m = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    column = tl.program_id(2) * TILE + tl.arange(0, TILE)[None, :]
    mask = (row < height) & (column < width)
    plane = height.to(tl.int64) * width
    source += (m // count) * batch_stride + (m % count) * plane
    tile = tl.load(source + row * width + column, mask=mask)
    target = columns + m * width * pitch
    tl.store(target + column * pitch + row, tile, mask=mask)


@triton.jit
def _of_direction(d: tl.constexpr, m, row, column, maps, height, width, pitch_h, pitch_w):
    """Offsets of a tile of map m in the buffer of the four directions."""
    start = _start(d, maps, height, width, pitch_h, pitch_w)
    if d < 2:
        offset = start + m * width * pitch_h + column * pitch_h + row
    else:
        offset = start + m * height * pitch_w + row * pitch_w + column
    return offset


@triton.jit(do_not_specialize=_SIZES)
def merge(
    results,
    out,  # (B, N, H, W), or (B, 4, N, H, W) for ALL
    maps,
    count,
    height,
    width,
    pitch_h,
    pitch_w,
    MODE: tl.constexpr,
    TILE: tl.constexpr,
):
    """The results of the four directions to maps. Grid (M, H / TILE, W / TILE)."""
    m = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    column = tl.program_id(2) * TILE + tl.arange(0, TILE)[None, :]
    mask = (row < height) & (column < width)
    plane = height.to(tl.int64) * width
    place = row * width + column
    merged = tl.zeros([TILE, TILE], tl.float32)
    for d in tl.static_range(4):
        offset = _of_direction(d, m, row, column, maps, height, width, pitch_h, pitch_w)
        value = tl.load(results + offset, mask=mask, other=0.0).to(tl.float32)
        if MODE == _ALL:
            target = out + ((m // count * 4 + d) * count + m % count) * plane
            tl.store(target + place, value, mask=mask)
        elif MODE == _MEAN:
            merged += 0.25 * value
        elif d == 0:
            merged = value
        else:
            merged = tl.maximum(merged, value, propagate_nan=tl.PropagateNan.ALL)
    if MODE != _ALL:
        tl.store(out + m * plane + place, merged, mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def spread(
    grad,  # of merge's `out`
    results,  # read for MAX only
    errors,  # of the four directions, written
    maps,
    count,
    height,
    width,
    pitch_h,
    pitch_w,
    MODE: tl.constexpr,
    TILE: tl.constexpr,
):
    """The gradient of the merged maps to those of the four directions: merge, backwards. Of equal
    maxima the first direction gets it. Grid (M, H / TILE, W / TILE)."""
    m = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    column = tl.program_id(2) * TILE + tl.arange(0, TILE)[None, :]
    mask = (row < height) & (column < width)
    plane = height.to(tl.int64) * width
    place = row * width + column
    winner = tl.zeros([TILE, TILE], tl.int32)
    given = tl.zeros([TILE, TILE], tl.float32)
    if MODE != _ALL:
        given = tl.load(grad + m * plane + place, mask=mask, other=0.0).to(tl.float32)
    if MODE == _MEAN:
        given *= 0.25
    if MODE == _MAX:
        best = tl.full([TILE, TILE], float("-inf"), tl.float32)
        for d in tl.static_range(4):
            offset = _of_direction(d, m, row, column, maps, height, width, pitch_h, pitch_w)
            value = tl.load(results + offset, mask=mask, other=0.0)
            better = (value > best) | ((value != value) & (best == best))
            winner = tl.where(better, d, winner)
            best = tl.where(better, value, best)
    for d in tl.static_range(4):
        offset = _of_direction(d, m, row, column, maps, height, width, pitch_h, pitch_w)
        error = given
        if MODE == _ALL:
            source = grad + ((m // count * 4 + d) * count + m % count) * plane
            error = tl.load(source + place, mask=mask, other=0.0).to(tl.float32)
        elif MODE == _MAX:
            error = tl.where(winner == d, given, 0.0)
        tl.store(errors + offset, error, mask=mask)


# --- gradients ------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=_SIZES)
def x_gradient(
    errors,  # as scan_back leaves them
    gates,  # (B, 4, 3, H, W)
    dx,  # (B, N, H, W)
    batch,
    count,
    height,
    width,
    pitch_h,
    pitch_w,
    NORMALISE: tl.constexpr,
    TILE: tl.constexpr,
):
    """dX = sum over directions of (1 - sum_j g_j) A. The gates' part is the same for all N maps, and
    stays in registers. Grid (B, H / TILE, W / TILE)."""
    b = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    column = tl.program_id(2) * TILE + tl.arange(0, TILE)[None, :]
    mask = (row < height) & (column < width)
    plane = height.to(tl.int64) * width
    place = row * width + column
    own = gates + b * 12 * plane
    free0 = _free(0, own, plane, place, mask, row, column, height, width, NORMALISE)
    free1 = _free(1, own + 3 * plane, plane, place, mask, row, column, height, width, NORMALISE)
    free2 = _free(2, own + 6 * plane, plane, place, mask, row, column, height, width, NORMALISE)
    free3 = _free(3, own + 9 * plane, plane, place, mask, row, column, height, width, NORMALISE)
    maps = batch * count
    for n in range(count):
        m = b * count + n
        at0 = _of_direction(0, m, row, column, maps, height, width, pitch_h, pitch_w)
        at1 = _of_direction(1, m, row, column, maps, height, width, pitch_h, pitch_w)
        at2 = _of_direction(2, m, row, column, maps, height, width, pitch_h, pitch_w)
        at3 = _of_direction(3, m, row, column, maps, height, width, pitch_h, pitch_w)
        total = free0 * tl.load(errors + at0, mask=mask, other=0.0)
        total += free1 * tl.load(errors + at1, mask=mask, other=0.0)
        total += free2 * tl.load(errors + at2, mask=mask, other=0.0)
        total += free3 * tl.load(errors + at3, mask=mask, other=0.0)
        tl.store(dx + m * plane + place, total, mask=mask)


@triton.jit
def _free(
    d: tl.constexpr, gates, plane, place, mask, row, column, height, width, NORMALISE: tl.constexpr
):
    """What is left to X: 1 - sum_j g_j, and 1 on the first line."""
    a, b, c, scale = _load_gates(gates, plane, place, mask, NORMALISE)
    if d < 2:
        line, last, lane, length = column, width - 1, row, height
    else:
        line, last, lane, length = row, height - 1, column, width
    taken = b + tl.where(lane > 0, a, 0.0) + tl.where(lane < length - 1, c, 0.0)
    on_first = line == (last if d % 2 else 0)
    return 1.0 - tl.where(on_first, 0.0, scale * taken)


@triton.jit(do_not_specialize=_SIZES)
def gates_gradient(
    errors,  # as scan_back leaves them
    results,  # float32
    x,  # lines (B, N, T, pitch)
    gates,  # lines (B, 2, 3, T, pitch), the batches `gates_batch` apart
    dgates,  # (B, 4, 3, H, W)
    batch,
    count,
    height,
    width,
    pitch_h,
    pitch_w,
    gates_batch,
    ACROSS: tl.constexpr,
    NORMALISE: tl.constexpr,
    LINES: tl.constexpr,
    LANES: tl.constexpr,
):
    """dg_j,t[l] = sum over maps of A_t[l] (H_{t-1}[l + j] - X_t[l]), through the normalisation.

    The sum runs over the N maps in the program, in their order: no atomics, and the same result
    every time. Grid (2 B, T / LINES, L / LANES), for the horizontal or the vertical directions.
    """
    b = (tl.program_id(0) // 2).to(tl.int64)
    back = tl.program_id(0) % 2
    line = tl.program_id(1) * LINES + tl.arange(0, LINES)[:, None]
    lane = tl.program_id(2) * LANES + tl.arange(0, LANES)[None, :]
    maps = batch * count
    if ACROSS:
        lines, length, pitch = width, height, pitch_h
        d = back
        place = lane * width + line
    else:
        lines, length, pitch = height, width, pitch_w
        d = 2 + back
        place = line * width + lane
    plane = lines.to(tl.int64) * pitch
    start = _start(d, maps, height, width, pitch_h, pitch_w)
    mask = (line < lines) & (lane < length)
    before = line - 1 + 2 * back  # the previous line of the scan, if there is one
    has_before = mask & (before >= 0) & (before < lines)
    da = tl.zeros([LINES, LANES], tl.float32)
    db = tl.zeros([LINES, LANES], tl.float32)
    dc = tl.zeros([LINES, LANES], tl.float32)
    low = has_before & (lane > 0)
    high = has_before & (lane < length - 1)
    for n in range(count):
        m = (b * count + n) * plane
        error = tl.load(errors + start + m + line * pitch + lane, mask=mask, other=0.0)
        v = tl.load(x + m + line * pitch + lane, mask=mask, other=0.0).to(tl.float32)
        previous = results + start + m + before * pitch + lane
        left = tl.load(previous - 1, mask=low, other=0.0)
        centre = tl.load(previous, mask=has_before, other=0.0)
        right = tl.load(previous + 1, mask=high, other=0.0)
        da += tl.where(low, error * (left - v), 0.0)
        db += tl.where(has_before, error * (centre - v), 0.0)
        dc += tl.where(high, error * (right - v), 0.0)
    if NORMALISE:
        own = gates + b * gates_batch + back * 3 * plane
        a, b_, c, scale = _load_gates(own, plane, line * pitch + lane, mask, NORMALISE)
        size = tl.abs(a) + tl.abs(b_) + tl.abs(c)
        shared = tl.where(size >= 1.0, (da * a + db * b_ + dc * c) * scale, 0.0)
        da = (da - _sign(a) * shared) * scale
        db = (db - _sign(b_) * shared) * scale
        dc = (dc - _sign(c) * shared) * scale
    map_plane = height.to(tl.int64) * width
    target = dgates + (b * 4 + d) * 3 * map_plane + place
    tl.store(target, da, mask=mask)
    tl.store(target + map_plane, db, mask=mask)
    tl.store(target + 2 * map_plane, dc, mask=mask)


@triton.jit
def _sign(value):
    return tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, 0.0))
