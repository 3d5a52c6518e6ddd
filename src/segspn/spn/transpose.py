"""Transposing a square of an array in vector registers, as a numba intrinsic.

Written element by element, a transposition costs as much as the scan it serves; LLVM does not
find the shuffles by itself. Here it is log2(n) rounds of them: swapping the off-diagonal halves of
blocks of 2, 4, .. n rows. Plain LLVM IR, so it runs on any machine (where registers are narrower,
the rows are split).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from segspn.spn.scan_line import ADD, COPY, MAXIMUM, store_merged

_BYTE, _INT = ir.IntType(8), ir.IntType(32)


def _fetch(builder: Any, at: Any) -> None:
    kinds = [_BYTE.as_pointer(), _INT, _INT, _INT]
    function = builder.module.declare_intrinsic(
        "llvm.prefetch", [_BYTE.as_pointer()], ir.FunctionType(ir.VoidType(), kinds)
    )
    # for reading, into the second-level cache, data
    builder.call(function, [at] + [ir.Constant(_INT, v) for v in (0, 2, 1)])


@intrinsic
def prefetch(typingctx, array, i, j):  # type: ignore[no-untyped-def]
    """Fetch the cache line of array[i, j] into the cache; the indices may be outside the array."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        array = make_array(sig.args[0])(context, builder, args[0])
        item = cgutils.get_item_pointer(context, builder, sig.args[0], array, list(args[1:]))
        _fetch(builder, builder.bitcast(item, _BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), codegen


def _transposer(merge: str, fetch: str) -> Any:
    @intrinsic(prefer_literal=False)
    def transpose_square(typingctx, target, i, j, source, k, l, ahead):  # type: ignore[no-untyped-def]
        """target[i + a, j + b] = source[k + b, l + a] for a, b < 64 bytes of elements; `max` keeps
        the larger of old and new (NaN wins), `add` adds. Prefetches the rows of source or target,
        whichever is `fetch`, `ahead` elements further on (which may be outside the array)."""
        width = source.dtype.bitwidth // 8
        size = 64 // width
        index = types.intp
        signature = types.void(target, index, index, source, index, index, index)

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            target, i, j, source, k, l, ahead = args
            target = make_array(sig.args[0])(context, builder, target)
            source = make_array(sig.args[3])(context, builder, source)
            vector = ir.VectorType(context.get_data_type(sig.args[3].dtype), size)

            def pointer(kind, array, row, r, column, to):  # type: ignore[no-untyped-def]
                row = builder.add(row, ir.Constant(row.type, r))
                item = cgutils.get_item_pointer(context, builder, kind, array, [row, column])
                return builder.bitcast(item, to.as_pointer())

            def pick(lanes):  # type: ignore[no-untyped-def]
                return ir.Constant(ir.VectorType(_INT, size), lanes)

            rows = []
            for r in range(size):
                at = pointer(sig.args[3], source, k, r, l, vector)
                rows.append(builder.load(at, align=width))
                for end in (0, size - 1):  # a row of the square may lie in two cache lines
                    if fetch == "source":
                        there = builder.add(builder.add(l, ahead), ir.Constant(l.type, end))
                        at = pointer(sig.args[3], source, k, r, there, _BYTE)
                    else:
                        there = builder.add(builder.add(j, ahead), ir.Constant(j.type, end))
                        at = pointer(sig.args[0], target, i, r, there, _BYTE)
                    _fetch(builder, at)
            half = 1
            while half < size:
                low = pick([e + (size - half if e & half else 0) for e in range(size)])
                high = pick([e + (size if e & half else half) for e in range(size)])
                for r in range(size):
                    if not r & half:
                        a, b = rows[r], rows[r + half]
                        rows[r] = builder.shuffle_vector(a, b, low)
                        rows[r + half] = builder.shuffle_vector(a, b, high)
                half *= 2
            for r in range(size):
                at = pointer(sig.args[0], target, i, r, j, vector)
                new = rows[r]
                store_merged(builder, new, at, width, merge)
            return context.get_dummy_value()

        return signature, codegen

    return transpose_square


transpose_load = _transposer(COPY, "source")
transpose_copy = _transposer(COPY, "target")
transpose_max = _transposer(MAXIMUM, "target")
transpose_add = _transposer(ADD, "target")
