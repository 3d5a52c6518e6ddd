"""A line of a scan for several maps side by side, in vector registers, as a numba intrinsic.

Written as a loop, a line costs several times what its arithmetic does. Its neighbours' loads straddle
what the line before has only just stored, and a processor then waits until that has reached the cache;
so each vector is loaded once, as it was stored, and the neighbours are made from it by shuffling. And
LLVM would leave a loop over several maps scalar, since it cannot prove that what it stores for them does
not overlap; side by side they share the loads of the gates. Plain LLVM IR, so it runs on any machine.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from segspn.compiled import processor_has

KEEP, COPY, MAXIMUM, ADD = "keep", "copy", "max", "add"
"""What becomes of a line beside the next one's input: nothing, or it goes into a merged map."""

ALIGNED = 64  # bytes; lines that begin at multiples of it are never split between two cache lines

_FUSED = ("contract",)  # multiply-add in one; NaN and infinity come out


def _bytes() -> int:
    """Of a vector: a register, or two where they are small."""
    return 64 if processor_has("avx512f") else 32


def store_merged(builder: Any, new: Any, at: Any, width: int, merge: str) -> None:
    """Store a vector of elements of ``width`` bytes; `MAXIMUM` keeps the larger of old and new (NaN
    wins, as in torch.max), `ADD` adds."""
    if merge != COPY:
        old = builder.load(at, align=width)
    if merge == MAXIMUM:
        larger = builder.fcmp_ordered(">", new, old)
        nan = builder.fcmp_unordered("uno", new, new)
        new = builder.select(builder.or_(larger, nan), new, old)
    elif merge == ADD:
        new = builder.fadd(new, old)
    builder.store(new, at, align=width)


def liner(maps: int, merge: str, normalise: bool) -> Any:
    """A line of so many maps, by gates that are to be normalised or not."""

    @intrinsic(prefer_literal=False)
    def line(typingctx, h, r, q, x, n, k, gates, g, length, out, m, o):  # type: ignore[no-untyped-def]
        """h[i, r, l] = v + sum_j gates[j, g, l] (h[i, q, l + j - 1] - v) with v = x[n + i, k, l], for
        all maps i and l < length, but for neighbours outside; merged into out[m + i, o, l].

        All arrays are C-contiguous. x[n + i, k] may be h[i, r]. h has a line's vector of elements
        beyond the last whole one.
        """
        index = types.intp
        signature = types.void(
            h, index, index, x, index, index, gates, index, index, out, index, index
        )
        made = _Line(maps, merge, normalise)

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            made.write(context, builder, sig.args, args)
            return context.get_dummy_value()

        return signature, codegen

    return line


class _Line:
    """Writes the instructions of `liner`'s line."""

    def __init__(self, maps: int, merge: str, normalise: bool) -> None:
        self.maps, self.merge, self.normalise = maps, merge, normalise

    def write(self, context: Any, builder: Any, kinds: Any, args: Any) -> None:
        h, r, q, x, n, k, gates, g, length, out, m, o = args
        self.builder = builder
        self.width = kinds[3].dtype.bitwidth // 8
        scalar = context.get_data_type(kinds[3].dtype)

        def rows(position: int, first: Any, row: Any, count: int) -> list[Any]:
            array = make_array(kinds[position])(context, builder, args[position])
            found = []
            for i in range(count):
                where = [builder.add(first, ir.Constant(first.type, i)), row, ir.Constant(row.type, 0)]
                found.append(
                    cgutils.get_item_pointer(context, builder, kinds[position], array, where)
                )
            return found

        zero = ir.Constant(r.type, 0)
        self.next, self.before = rows(0, zero, r, self.maps), rows(0, zero, q, self.maps)
        self.values, self.gates = rows(3, n, k, self.maps), rows(6, zero, g, 3)
        self.merged = rows(9, m, o, self.maps) if self.merge != KEEP else []
        self._vectors(scalar, length)
        self._rest(scalar, length)

    def _vectors(self, scalar: Any, length: Any) -> None:
        """Whole vectors; each map's last one and the present one stay in registers."""
        builder, size = self.builder, _bytes() // self.width
        self.kind = ir.VectorType(scalar, size)
        step = ir.Constant(length.type, size)
        self.whole = builder.mul(builder.sdiv(length, step), step)
        left = [cgutils.alloca_once(builder, self.kind) for _ in range(self.maps)]
        here = [cgutils.alloca_once(builder, self.kind) for _ in range(self.maps)]
        begin = ir.Constant(length.type, 0)
        with builder.if_then(builder.icmp_signed(">=", length, step)):
            for i in range(self.maps):
                value = self._load(self.values[i], begin)
                first = builder.shuffle_vector(value, value, self._lanes([0] * size))
                builder.store(first, left[i])  # outside: as if it were no other than the value
                builder.store(self._load(self.before[i], begin), here[i])
            loop = cgutils.for_range_slice(builder, begin, self.whole, step, length.type, inc=True)
            with loop as (l, _):
                self._vector(l, left, here, length)

    def _vector(self, l: Any, left: list[Any], here: list[Any], length: Any) -> None:
        """The vectors at l of all maps."""
        builder, size = self.builder, self.kind.count
        after = builder.add(l, ir.Constant(l.type, size))
        ends = builder.icmp_signed("==", after, length)
        shifted = [self._lanes(range(first, first + size)) for first in (size - 1, 1)]
        gates = [self._load(row, l) for row in self.gates]
        factor = self._factor(gates) if self.normalise else None
        found = []
        for i in range(self.maps):
            value = self._load(self.values[i], l)
            middle, right = builder.load(here[i]), self._load(self.before[i], after)
            edge = builder.shuffle_vector(value, value, self._lanes([size - 1] * size))
            right = builder.select(ends, edge, right)
            near = [
                builder.shuffle_vector(builder.load(left[i]), middle, shifted[0]),
                middle,
                builder.shuffle_vector(middle, right, shifted[1]),
            ]
            builder.store(middle, left[i])
            builder.store(right, here[i])
            found.append(self._value(value, near, gates, factor))
        for i, new in enumerate(found):
            self._store(new, i, l)

    def _rest(self, scalar: Any, length: Any) -> None:
        """What is left over, one by one."""
        builder = self.builder
        self.kind = ir.VectorType(scalar, 1)
        one = ir.Constant(length.type, 1)
        with cgutils.for_range_slice(builder, self.whole, length, one, length.type, inc=True) as (l, _):
            below, above = builder.sub(l, one), builder.add(l, one)
            inside = builder.icmp_signed(">=", below, ir.Constant(l.type, 0))
            within = builder.icmp_signed("<", above, length)
            below, above = builder.select(inside, below, l), builder.select(within, above, l)
            gates = [self._load(row, l) for row in self.gates]
            factor = self._factor(gates) if self.normalise else None
            for i in range(self.maps):
                value = self._load(self.values[i], l)
                near = [self._load(self.before[i], at) for at in (below, l, above)]
                near[0] = builder.select(inside, near[0], value)
                near[2] = builder.select(within, near[2], value)
                self._store(self._value(value, near, gates, factor), i, l)

    def _value(self, value: Any, near: list[Any], gates: list[Any], factor: Any) -> Any:
        builder, change = self.builder, None
        for gate, other in zip(gates, near, strict=True):
            one = builder.fmul(gate, builder.fsub(other, value), flags=_FUSED)
            change = one if change is None else builder.fadd(change, one, flags=_FUSED)
        if factor is not None:
            change = builder.fmul(change, factor, flags=_FUSED)
        return builder.fadd(value, change, flags=_FUSED)

    def _factor(self, gates: list[Any]) -> Any:
        """1 / max(1, sum of the gates' sizes)."""
        builder, total = self.builder, None
        for gate in gates:
            negative = builder.fcmp_ordered("<", gate, self._number(0.0))
            magnitude = builder.select(negative, builder.fsub(self._number(0.0), gate), gate)
            total = magnitude if total is None else builder.fadd(total, magnitude)
        small = builder.fcmp_ordered("<", total, self._number(1.0))
        return builder.fdiv(self._number(1.0), builder.select(small, self._number(1.0), total))

    def _store(self, new: Any, i: int, l: Any) -> None:
        builder = self.builder
        builder.store(new, self._at(self.next[i], l), align=self.width)
        if self.merge == KEEP:
            return
        store_merged(builder, new, self._at(self.merged[i], l), self.width, self.merge)

    def _at(self, row: Any, l: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(row, [l]), self.kind.as_pointer())

    def _load(self, row: Any, l: Any) -> Any:
        return self.builder.load(self._at(row, l), align=self.width)

    def _number(self, value: float) -> Any:
        return ir.Constant(self.kind, [value] * self.kind.count)

    def _lanes(self, lanes: Any) -> Any:
        lanes = list(lanes)
        return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
