"""The numba kernels of :mod:`segspn.instance.matching`.

A tile of remembered cells meets six or twelve queries at a time, whose products stay in registers; the
weights that come of them are used at once. That is written in vectors (LLVM's, of any machine): element
by element LLVM would keep its sums in memory and call a library for each exponential.

Where the processor multiplies and adds four bytes at once (VNNI), keys are compared as bytes, which is
four times the products: their steps move a cosine by about .001.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from segspn.compiled import njit, processor_has
from segspn.exponential import BITS, call, fma, power

LANES = 16  # remembered cells of a tile, one in each lane of a vector
BYTES = 4  # of a key, that are multiplied at once

_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)


def _dot_lanes() -> int:
    """How many lanes the processor's instruction for products of bytes has; 0: there is none."""
    if processor_has("avx512vnni", "avx512vl"):
        return LANES
    return LANES // 2 if processor_has("avxvnni") else 0


DOT_LANES = _dot_lanes()
# Queries that meet a tile at once. Sums that find no register cost half of the speed: AVX-512 has 32
# of a tile's width, AVX2 sixteen of half of it.
GROUP = 12 if processor_has("avx512f") else 6
ZERO = np.int32(-0x7F7F7F80)  # four bytes of 128


def _splat(value: float, of: Any = _VECTOR) -> Any:
    return ir.Constant(of, [value] * LANES)


def _dot(builder: Any, total: Any, keys: Any, queries: Any) -> Any:
    """``total`` and the products of four bytes of each lane, of ``keys`` 0..255, of ``queries``
    -128..127; all integers (LANES,)."""
    name = f"x86.avx512.vpdpbusd.{32 * DOT_LANES}"
    if DOT_LANES == LANES:
        return call(builder, name, total, keys, queries)
    halves = []
    for start in range(0, LANES, DOT_LANES):
        at = ir.Constant(ir.VectorType(_INT, DOT_LANES), list(range(start, start + DOT_LANES)))
        parts = [builder.shuffle_vector(v, v, at) for v in (total, keys, queries)]
        halves.append(call(builder, name, *parts))
    return builder.shuffle_vector(*halves, ir.Constant(_INTS, list(range(LANES))))


@intrinsic
def _meet(  # type: ignore[no-untyped-def]
    typingctx, sums, s, queries, q, rows, keys, k, values, used, count, unit, shift
):
    """sums[c, a] += 2**(unit * queries[:, a] . keys + shift) * values[c] for c of used[:count].

    All are C-contiguous, the first three from an element on, which is given beside them: float32
    ``sums`` (C, GROUP, LANES), lanes apart; ``queries`` (rows, GROUP) and ``keys`` (rows, LANES), both
    float32, or both int32 as `asked_bytes` and `packed` make them, the queries with one row more; and
    float32 ``values`` (C, LANES).
    """
    whole = keys.dtype == types.int32

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        kind = _INTS if whole else _VECTOR

        def pointer(n, index=None):  # type: ignore[no-untyped-def]
            data = make_array(sig.args[n])(context, builder, args[n]).data
            return data if index is None else builder.gep(data, [args[index]])

        def vector_at(pointer, base, offset=0, kind=_VECTOR):  # type: ignore[no-untyped-def]
            place = builder.gep(pointer, [builder.add(base, _INDEX(offset))])
            return builder.bitcast(place, kind.as_pointer())

        def load(place):  # type: ignore[no-untyped-def]
            vector = builder.load(place)
            vector.align = 4
            return vector

        def in_all_lanes(value, kind=_VECTOR):  # type: ignore[no-untyped-def]
            blank = ir.Constant(kind, ir.Undefined)
            vector = builder.insert_element(blank, value, _INT(0))
            return builder.shuffle_vector(vector, blank, _splat(0, _INTS))

        def query(base, a):  # type: ignore[no-untyped-def]
            place = builder.gep(queries, [builder.add(base, _INDEX(a))])
            return in_all_lanes(builder.load(place), kind)

        sums, queries, keys, values = pointer(0, 1), pointer(2, 3), pointer(5, 6), pointer(7)
        rows, used, count = args[4], pointer(8), args[9]
        unit, shift = in_all_lanes(args[10]), in_all_lanes(args[11])
        products = [cgutils.alloca_once(builder, kind) for _ in range(GROUP)]
        for a, product in enumerate(products):
            builder.store(query(_INDEX(0), a) if whole else _splat(0.0), product)
        first = _INDEX(1 if whole else 0)
        with cgutils.for_range(builder, rows, start=first) as loop:
            tile = builder.sub(loop.index, first)
            key = load(vector_at(keys, builder.mul(tile, _INDEX(LANES)), kind=kind))
            base = builder.mul(loop.index, _INDEX(GROUP))
            for a, product in enumerate(products):
                total = builder.load(product)
                if whole:
                    total = _dot(builder, total, key, query(base, a))
                else:
                    total = fma(builder, query(base, a), key, total)
                builder.store(total, product)
        found = [builder.load(product) for product in products]
        if whole:
            found = [builder.sitofp(x, _VECTOR) for x in found]
        weights = [power(builder, fma(builder, x, unit, shift)) for x in found]
        with cgutils.for_range(builder, count) as loop:
            c = builder.load(builder.gep(used, [loop.index]))
            value = load(vector_at(values, builder.mul(c, _INDEX(LANES))))
            base = builder.mul(c, _INDEX(GROUP * LANES))
            for a, weight in enumerate(weights):
                place = vector_at(sums, base, LANES * a)
                builder.store(fma(builder, weight, value, load(place)), place).align = 4
        return context.get_dummy_value()

    i, f = types.intp, types.float32
    return types.void(sums, i, queries, i, i, keys, i, values, used, i, f, f), codegen


_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


@_jit
def tiled(maps, out):  # type: ignore[no-untyped-def]
    """maps (h, w, K) -> tiles of each row, out (h, T, K, LANES), which is 0 beyond the row."""
    for r in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            for k in range(maps.shape[2]):
                out[r, c // LANES, k, c % LANES] = maps[r, c, k]


@_jit
def packed(maps, step, out):  # type: ignore[no-untyped-def]
    """Keys (h, w, K) in ``step`` s, -127 to 127 -> in tiles of each row, bytes 1 to 255: out int32
    (h, T, K / BYTES, LANES), `ZERO` to begin with."""
    for r in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            for k in range(maps.shape[2]):
                bits = (np.int32(np.rint(maps[r, c, k] / step)) & 255) << (8 * (k % BYTES))
                out[r, c // LANES, k // BYTES, c % LANES] ^= np.int32(bits)


@_jit
def add(  # type: ignore[no-untyped-def]
    sums, queries, keys, values, top, bottom, left, right, unit, shift
):
    """Add the values of the cells in a window, weighted, to what queries have gathered.

    ``sums`` (G, C, GROUP, LANES), lanes apart; ``queries`` (G, K, GROUP) of `asked` and ``keys``
    (h, T, K, LANES) of `tiled`, or int32 those of `asked_bytes` and `packed`; ``values``
    (h, T, C, LANES) of `tiled`. The weight is exp(unit * query . key + shift).
    """
    unit, shift = np.float32(unit * BITS), np.float32(shift * BITS)
    groups, width = queries.shape[0], queries.shape[1]
    size = keys.shape[2] * LANES
    tiles, channels = values.shape[1], values.shape[2]
    used = np.empty(channels, np.intp)
    near = np.empty((channels, LANES), np.float32)
    bits = near.view(np.uint32)  # to look for others than 0 in vectors, which a maximum is not
    for r in range(top, bottom):
        for t in range(left // LANES, (right + LANES - 1) // LANES):
            for c in range(channels):
                for m in range(LANES):
                    near[c, m] = values[r, t, c, m]
            for m in range(left - t * LANES):
                near[:, m] = 0
            for m in range(right - t * LANES, LANES):
                near[:, m] = 0
            # Most cells hold no object: many objects take hardly longer than one.
            count = 0
            for c in range(channels):
                any_bit = np.uint32(0)
                for m in range(LANES):
                    any_bit |= bits[c, m]
                if any_bit:
                    used[count] = c
                    count += 1
            for g in range(groups):
                _meet(  # type: ignore[call-arg]
                    sums,
                    g * channels * GROUP * LANES,
                    queries,
                    g * width * GROUP,
                    width,
                    keys,
                    (r * tiles + t) * size,
                    near,
                    used,
                    count,
                    unit,
                    shift,
                )


@_jit
def asked(keys, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """The keys (K, h, w) of a window as queries (G, K, GROUP), 0 beyond the last."""
    count = (bottom - top) * (right - left)
    out = np.zeros(((count + GROUP - 1) // GROUP, keys.shape[0], GROUP), np.float32)
    for k in range(keys.shape[0]):
        g = a = 0
        for r in range(top, bottom):
            for c in range(left, right):
                out[g, k, a] = keys[k, r, c]
                a += 1
                if a == GROUP:
                    g, a = g + 1, 0
    return out


@_jit
def asked_bytes(keys, step, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """The same in ``step`` s, as bytes -127 to 127: queries int32 (G, 1 + K / BYTES, GROUP). The first
    row is what makes up for the 128 in each byte of `packed`."""
    count = (bottom - top) * (right - left)
    rows = 1 + (keys.shape[0] + BYTES - 1) // BYTES
    out = np.zeros(((count + GROUP - 1) // GROUP, rows, GROUP), np.int32)
    for k in range(keys.shape[0]):
        g = a = 0
        for r in range(top, bottom):
            for c in range(left, right):
                byte = np.int32(np.rint(keys[k, r, c] / step))
                out[g, 0, a] -= 128 * byte
                out[g, 1 + k // BYTES, a] |= np.int32((byte & 255) << (8 * (k % BYTES)))
                a += 1
                if a == GROUP:
                    g, a = g + 1, 0
    return out


@_jit
def finish(sums, out, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Sums (G, C, GROUP, LANES) over their lanes, into the window of out (C, h, w)."""
    for c in range(out.shape[0]):
        g = a = 0
        for row in range(top, bottom):
            for column in range(left, right):
                total = np.float32(0)
                for m in range(LANES):
                    total += sums[g, c, a, m]
                out[c, row, column] = total
                a += 1
                if a == GROUP:
                    g, a = g + 1, 0
