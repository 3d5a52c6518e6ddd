"""Softmax matching: what is remembered of cells, weighted by how well their keys match.

On the CPU one kernel does it, tile by tile: as separate operations the matrix of weights, hundreds of
cells by thousands, is written and read four times, and windows of few cells spend their time on calls.
Where the processor has an instruction for it, keys are compared as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from segspn.heap import apart
from segspn.threads import do_all


@dataclass(frozen=True, eq=False)
class Cells:
    """Remembered cells, ``size`` (h, w): ``keys`` ``(h, w, K)``, unit vectors, and ``values``
    ``(h, w, C)``, not negative; on the CPU as the kernel wants them, in tiles. ``step``: what one more
    in a byte of the keys is, 0 if they are no bytes."""

    keys: Tensor
    values: Tensor
    size: tuple[int, int]
    step: float = 0.0

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, as_bytes: bool | None = None) -> Cells:
        """``as_bytes``: whether the kernel compares bytes; None: if that is fast here."""
        size = (keys.shape[0], keys.shape[1])
        if keys.device.type != "cpu":
            return cls(keys, values, size)
        if as_bytes is None:
            as_bytes = bytes_are_fast()
        if as_bytes:
            step = _step(keys)
            return cls(_packed(keys, step), _tiled(values), size, step)
        return cls(_tiled(keys), _tiled(values), size)

    @property
    def everywhere(self) -> Window:
        return slice(0, self.size[0]), slice(0, self.size[1])


Window = tuple[slice, slice]
"""Rows and columns of cells."""


@dataclass(frozen=True, eq=False)
class Search:
    """The cells of a ``window`` of a frame, and the ``remembered`` that they are compared with, of each
    a window as well."""

    window: Window
    remembered: Sequence[tuple[Cells, Window]]


def weighted_sums(
    searches: Sequence[Search], keys: Tensor, scale: float, margin: float, out: Tensor
) -> None:
    """For each cell the sums of the values of all that it is compared with, each weighted by
    ``exp(scale * (cosine - 1) + margin)``, written into the windows of ``out`` ``(C, h, w)``.

    ``keys`` ``(K, h, w)``: a frame's, unit vectors. The margin is at most 80.
    """
    if keys.device.type == "cpu":
        args = keys.numpy(), _step(keys), scale, margin - scale, out.numpy()
        do_all([partial(_in_one_pass, search, *args) for search in searches], torch.get_num_threads())
        return
    for search in searches:
        _in_torch(search, keys, scale, margin - scale, out)


def _in_torch(search: Search, keys: Tensor, scale: float, shift: float, out: Tensor) -> None:
    """The definition, which runs anywhere."""
    place = (slice(None), *search.window)
    queries = scale * keys[place]
    total = out.new_zeros(())
    for cells, near in search.remembered:
        weight = (cells.keys[near].flatten(0, 1) @ queries.flatten(1) + shift).exp_()
        total = total + cells.values[near].flatten(0, 1).T @ weight
    out[place] = total.view(-1, *queries.shape[1:])


def _in_one_pass(
    search: Search, keys: np.ndarray, step: float, scale: float, shift: float, out: np.ndarray
) -> None:
    from segspn.instance.matching_kernel import GROUP, LANES, add, asked, asked_bytes, finish

    window = _bounds(search.window)
    as_bytes = search.remembered[0][0].step > 0
    queries = asked_bytes(keys, step, *window) if as_bytes else asked(keys, *window)
    sums = np.zeros((len(queries), len(out), GROUP, LANES), np.float32)
    for cells, near in search.remembered:
        unit = scale * step * cells.step if as_bytes else scale
        maps = cells.keys.numpy(), cells.values.numpy()
        add(sums, queries, *maps, *_bounds(near), unit, shift)
    finish(sums, out, *window)


def bytes_are_fast() -> bool:
    """Whether the processor multiplies bytes faster than floats."""
    from segspn.instance.matching_kernel import DOT_LANES

    return DOT_LANES > 0


def _step(keys: Tensor) -> float:
    """Of bytes that hold keys."""
    return max(float(keys.abs().max()), 1e-6) / 127


def _bounds(window: Window) -> tuple[int, int, int, int]:
    rows, columns = window
    return rows.start, rows.stop, columns.start, columns.stop


def _packed(keys: Tensor, step: float) -> Tensor:
    from segspn.instance.matching_kernel import BYTES, LANES, ZERO, packed

    height, width, channels = keys.shape
    size = (height, -(-width // LANES), -(-channels // BYTES), LANES)
    out = apart(torch.full(size, int(ZERO), dtype=torch.int32))
    packed(keys.numpy(), step, out.numpy())
    return out


def _tiled(maps: Tensor) -> Tensor:
    from segspn.instance.matching_kernel import LANES, tiled

    height, width, channels = maps.shape
    out = apart(maps.new_zeros(height, -(-width // LANES), channels, LANES))
    tiled(maps.numpy(), out.numpy())
    return out
