"""Powers of two in numba's loops, as operations that LLVM makes vectors of.

``np.exp`` there is a call of the C library for each element, unless Intel's is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BITS = float(1 / np.log(2))  # e**x is 2**(BITS * x)

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
# 2**f for f in -.5 to .5, to 3e-6 of it (fitted so that the largest relative error is least).
_POWERS = (
    0.009570101698756736,
    0.05591786030273593,
    0.24024744833109224,
    0.6931218147397945,
    0.9999992614441331,
)
_ROUNDING = 1.5 * 2**23  # added to a float32, it leaves the nearest integer in the lowest bits


def call(builder: Any, name: str, *args: Any) -> Any:
    """LLVM's own function ``name`` of arguments of one type, floats or vectors of them."""
    kind = ir.FunctionType(args[0].type, [x.type for x in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), args)


def fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z of floats or vectors of them."""
    count = getattr(x.type, "count", None)
    return call(builder, "fma.f32" if count is None else f"fma.v{count}f32", x, y, z)


def power(builder: Any, x: Any) -> Any:
    """2**x of a float or a vector of them, for x up to 127; what is below -126 counts as that."""
    kind = x.type
    count = getattr(kind, "count", None)
    ints = _INT if count is None else ir.VectorType(_INT, count)

    def splat(value: float, of: Any = kind) -> Any:
        return ir.Constant(of, value if count is None else [value] * count)

    least = splat(-126.0)
    x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
    rounded = builder.fadd(x, splat(_ROUNDING))
    rest = builder.fsub(x, builder.fsub(rounded, splat(_ROUNDING)))
    out = splat(_POWERS[0])
    for c in _POWERS[1:]:
        out = fma(builder, out, rest, splat(c))
    bits = builder.shl(builder.bitcast(rounded, ints), splat(23, ints))
    return builder.bitcast(builder.add(builder.bitcast(out, ints), bits), kind)


@intrinsic
def sigmoid(typingctx, x):  # type: ignore[no-untyped-def]
    """1 / (1 + e**-x) of a float32; not for NaN."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        one, most = ir.Constant(_FLOAT, 1.0), ir.Constant(_FLOAT, 126.0)
        bits = builder.fmul(args[0], ir.Constant(_FLOAT, -BITS))
        bits = builder.select(builder.fcmp_ordered("<", bits, most), bits, most)
        return builder.fdiv(one, builder.fadd(one, power(builder, bits)))

    return types.float32(types.float32), codegen
