"""The numba kernels of :mod:`segspn.instance.matching`.

A tile of remembered cells meets a dozen queries at a time, whose products stay in registers; the
weights that come of them are used at once. That is written in vectors (LLVM's, of any machine): element
by element LLVM would keep its sums in memory and call a library for each exponential.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from segspn.compiled import njit

LANES = 16  # remembered cells of a tile, one in each lane of a vector
GROUP = 12  # queries that meet it at once

_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
# 2**f for f in -.5 to .5, to 2e-7 (the coefficients are those of Cephes' exp2f).
_POWERS = (
    1.535336188319500e-4,
    1.339887440266574e-3,
    9.618437357674640e-3,
    5.550332471162809e-2,
    2.402264791363012e-1,
    6.931472028550421e-1,
    1.0,
)


def _splat(value: float, of: Any = _VECTOR) -> Any:
    return ir.Constant(of, [value] * LANES)


def _call(builder: Any, name: str, *args: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(args))
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, args)


def _exp(builder: Any, x: Any) -> Any:
    """e**x of a vector, for x up to 88; what is below -87 counts as that."""
    x = _call(builder, "maxnum", x, _splat(-87.0))
    x = builder.fmul(x, _splat(1.4426950408889634))
    whole = _call(builder, "rint", x)
    rest = builder.fsub(x, whole)
    power = _splat(_POWERS[0])
    for c in _POWERS[1:]:
        power = _call(builder, "fma", power, rest, _splat(c))
    bits = builder.shl(builder.fptosi(whole, _INTS), _splat(23, _INTS))
    return builder.bitcast(builder.add(builder.bitcast(power, _INTS), bits), _VECTOR)


@intrinsic
def _meet(typingctx, sums, s, queries, q, width, keys, k, values, used, count, shift):  # type: ignore[no-untyped-def]
    """sums[c, a] += exp(queries[:, a] . keys + shift) * values[c] for c of used[:count].

    All are C-contiguous float32, the first three from an element on, which is given beside them:
    ``sums`` (C, GROUP, LANES), lanes apart; ``queries`` (width, GROUP); ``keys`` (width, LANES); and
    ``values`` (C, LANES).
    """

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        def pointer(n, index=None):  # type: ignore[no-untyped-def]
            data = make_array(sig.args[n])(context, builder, args[n]).data
            return data if index is None else builder.gep(data, [args[index]])

        def vector_at(pointer, base, offset=0):  # type: ignore[no-untyped-def]
            place = builder.gep(pointer, [builder.add(base, _INDEX(offset))])
            return builder.bitcast(place, _VECTOR.as_pointer())

        def load(place):  # type: ignore[no-untyped-def]
            vector = builder.load(place)
            vector.align = 4
            return vector

        def in_all_lanes(value):  # type: ignore[no-untyped-def]
            blank = ir.Constant(_VECTOR, ir.Undefined)
            vector = builder.insert_element(blank, value, _INT(0))
            return builder.shuffle_vector(vector, blank, _splat(0, _INTS))

        sums, queries, keys, values = pointer(0, 1), pointer(2, 3), pointer(5, 6), pointer(7)
        width, used, count, shift = args[4], pointer(8), args[9], args[10]
        start = in_all_lanes(shift)
        products = [cgutils.alloca_once(builder, _VECTOR) for _ in range(GROUP)]
        for product in products:
            builder.store(start, product)
        with cgutils.for_range(builder, width) as loop:
            key = load(vector_at(keys, builder.mul(loop.index, _INDEX(LANES))))
            base = builder.mul(loop.index, _INDEX(GROUP))
            for a, product in enumerate(products):
                query = builder.load(builder.gep(queries, [builder.add(base, _INDEX(a))]))
                added = _call(builder, "fma", in_all_lanes(query), key, builder.load(product))
                builder.store(added, product)
        weights = [_exp(builder, builder.load(product)) for product in products]
        with cgutils.for_range(builder, count) as loop:
            c = builder.load(builder.gep(used, [loop.index]))
            value = load(vector_at(values, builder.mul(c, _INDEX(LANES))))
            base = builder.mul(c, _INDEX(GROUP * LANES))
            for a, weight in enumerate(weights):
                place = vector_at(sums, base, LANES * a)
                builder.store(_call(builder, "fma", weight, value, load(place)), place).align = 4
        return context.get_dummy_value()

    i, f = types.intp, types.float32
    return types.void(sums, i, queries, i, i, keys, i, values, used, i, f), codegen


_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


@_jit
def tiled(maps, out):  # type: ignore[no-untyped-def]
    """maps (h, w, K) -> tiles of each row, out (h, T, K, LANES), which is 0 beyond the row."""
    for r in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            for k in range(maps.shape[2]):
                out[r, c // LANES, k, c % LANES] = maps[r, c, k]


@_jit
def add(sums, queries, keys, values, top, bottom, left, right, shift):  # type: ignore[no-untyped-def]
    """Add the values of the cells in a window, weighted, to what queries have gathered.

    ``sums`` (G, C, GROUP, LANES), lanes apart; ``queries`` (G, K, GROUP); of `tiled` ``keys``
    (h, T, K, LANES) and ``values`` (h, T, C, LANES). The weight is exp(query . key + shift).
    """
    groups, width = queries.shape[0], queries.shape[1]
    tiles, channels = values.shape[1], values.shape[2]
    used = np.empty(channels, np.intp)
    near = np.empty((channels, LANES), np.float32)
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
                most = np.float32(0)
                for m in range(LANES):
                    most = max(most, near[c, m])
                if most > 0:
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
                    (r * tiles + t) * width * LANES,
                    near,
                    used,
                    count,
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
