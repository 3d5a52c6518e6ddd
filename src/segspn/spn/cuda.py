"""The propagation on NVIDIA GPUs, forward and backward: buffers, and launches of the Triton kernels.

Forward: the maps and the gates of the horizontal directions are transposed once, one launch scans
all four directions, one merges. Backward: the four directions are computed again, the gradient is
spread over them, one launch scans all four back, and three turn the errors into gradients.

For float32 and half precision; all is computed in float32. What goes through memory, for N maps of
S bytes and gates of G bytes: 15 N S + 2 G forward (the transposition 2, the scans 8, the merge 5) and
44 N S + 6 G backward, with S and G counted in float32 there; the scans read the gates (N / block)
times, but side by side, so that all but one of these readings come from the second-level cache. Four
separate scans cannot do with much less: x alone is read four times. Scratch memory: 5 N S and 9 N S.

Importing this module imports triton; :mod:`segspn.spn.operator` does so at the first call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
from torch import Tensor

from segspn.spn.triton_kernels import (
    ALL,
    MAX,
    MEAN,
    gates_gradient,
    merge,
    scan,
    scan_back,
    spread,
    to_columns,
    x_gradient,
)

MODES = {"max": MAX, "mean": MEAN, "all": ALL}
TILE = 32  # rows and columns: whole cache lines of float32, transposed or not
PITCH = 16  # elements a line's start is a multiple of; triton's vectors and asynchronous copies need it
MOST_MAPS = 4  # that one program scans
MOST_AHEAD = 7  # lines loaded ahead, where shared memory holds that many


@dataclass(frozen=True)
class _Shape:
    """Sizes that the kernels share. The fields are named like the kernels' parameters."""

    batch: int
    count: int
    height: int
    width: int

    @property
    def maps(self) -> int:
        return self.batch * self.count

    @property
    def pitch_h(self) -> int:
        return -(-self.height // PITCH) * PITCH

    @property
    def pitch_w(self) -> int:
        return -(-self.width // PITCH) * PITCH

    def sizes(self) -> tuple[int, ...]:
        return self.height, self.width, self.pitch_h, self.pitch_w

    def tiles(self, first: int) -> tuple[int, int, int]:
        return first, triton.cdiv(self.height, TILE), triton.cdiv(self.width, TILE)

    def directions(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Room for the lines of all four directions."""
        lines = self.width * self.pitch_h + self.height * self.pitch_w
        return like.new_empty(2 * self.maps * lines, dtype=dtype)


class _Lines:
    """Maps and gates as the scans walk them; `x` and `gates` are contiguous."""

    def __init__(self, x: Tensor, gates: Tensor, shape: _Shape) -> None:
        self.shape = shape
        self.x_across = _columns(x, shape)
        self.x_down = _rows(x, shape)
        self.gates_across = _columns(gates[:, :2].flatten(1, 2), shape)
        self.gates_down = _rows(gates[:, 2:], shape)
        self.down_batch = self.gates_down.stride(0)
        self.across_batch = 6 * shape.width * shape.pitch_h

    def scan(self, results: Tensor, normalise: bool) -> None:
        shape = self.shape
        grid, options = _schedule(self.x_across, self.gates_across, shape)
        scan[grid](
            self.x_across,
            self.x_down,
            self.gates_across,
            self.gates_down,
            results,
            shape.batch,
            shape.count,
            *shape.sizes(),
            self.down_batch,
            NORMALISE=normalise,
            **options,
        )

    def scan_back(self, errors: Tensor, normalise: bool) -> None:
        shape = self.shape
        grid, options = _schedule(errors, self.gates_across, shape)
        scan_back[grid](
            errors,
            self.gates_across,
            self.gates_down,
            shape.batch,
            shape.count,
            *shape.sizes(),
            self.down_batch,
            NORMALISE=normalise,
            **options,
        )

    def gates_gradient(self, errors: Tensor, results: Tensor, dgates: Tensor, normalise: bool) -> None:
        shape = self.shape
        for across in (True, False):
            lines, length = (shape.width, shape.height) if across else (shape.height, shape.width)
            gates_gradient[(2 * shape.batch, triton.cdiv(lines, TILE), triton.cdiv(length, TILE))](
                errors,
                results,
                self.x_across if across else self.x_down,
                self.gates_across if across else self.gates_down,
                dgates,
                shape.batch,
                shape.count,
                *shape.sizes(),
                self.across_batch if across else self.down_batch,
                ACROSS=across,
                NORMALISE=normalise,
                LINES=TILE,
                LANES=TILE,
            )


def forward(x: Tensor, gates: Tensor, merge_by: str, normalise: bool) -> Tensor:
    """One round. Tensors x (B, N, H, W) and gates (B, 4, 3, H, W) of the same dtype, float32 or half,
    nothing empty; returns (B, N, H, W), or (B, 4, N, H, W) for ``all``, in that dtype."""
    shape = _Shape(*x.shape)
    with torch.cuda.device_of(x):
        # Rounding before a maximum is as good as after; before a mean it is not.
        dtype = torch.float32 if merge_by == "mean" else x.dtype
        results = shape.directions(x, dtype)
        _Lines(x.contiguous(), gates.contiguous(), shape).scan(results, normalise)
        b, n, h, w = x.shape
        out = x.new_empty((b, 4, n, h, w) if merge_by == "all" else (b, n, h, w))
        merge[shape.tiles(shape.maps)](
            results, out, shape.maps, n, *shape.sizes(), MODE=MODES[merge_by], TILE=TILE
        )
    return out


def backward(
    grad: Tensor, x: Tensor, gates: Tensor, merge_by: str, normalise: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of x and gates, given that of :func:`forward`'s result; same requirements."""
    shape = _Shape(*x.shape)
    with torch.cuda.device_of(x):
        gates = gates.contiguous()
        lines = _Lines(x.contiguous(), gates, shape)
        results = shape.directions(x, torch.float32)
        lines.scan(results, normalise)
        errors = torch.empty_like(results)
        spread[shape.tiles(shape.maps)](
            grad.contiguous(),
            results,
            errors,
            shape.maps,
            shape.count,
            *shape.sizes(),
            MODE=MODES[merge_by],
            TILE=TILE,
        )
        lines.scan_back(errors, normalise)
        dx = x.new_empty(x.shape)
        dgates = gates.new_empty(gates.shape)
        x_gradient[shape.tiles(shape.batch)](
            errors,
            gates,
            dx,
            shape.batch,
            shape.count,
            *shape.sizes(),
            NORMALISE=normalise,
            TILE=TILE,
        )
        lines.gates_gradient(errors, results, dgates, normalise)
    return dx, dgates


def _columns(maps: Tensor, shape: _Shape) -> Tensor:
    """(B, C, H, W), contiguous but for the batch axis, as (B, C, W, pitch_h)."""
    b, c, height, width = maps.shape
    columns = maps.new_empty((b, c, width, shape.pitch_h))
    to_columns[shape.tiles(b * c)](
        maps, columns, c, height, width, shape.pitch_h, maps.stride(0), TILE=TILE
    )
    return columns


def _rows(maps: Tensor, shape: _Shape) -> Tensor:
    """(.., H, W), contiguous but for the batch axis, as (.., H, pitch_w): itself where it can be."""
    if shape.pitch_w == shape.width:
        return maps
    rows = maps.new_empty((*maps.shape[:-1], shape.pitch_w))
    rows[..., : shape.width].copy_(maps)
    return rows


def _schedule(values: Tensor, gates: Tensor, shape: _Shape) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid and the options of a scan that reads a line of values and three of gates a step."""
    lanes = max(16, triton.next_power_of_2(max(shape.height, shape.width)))
    processors, shared_bytes = _device(values.device)
    # Maps in a block share the gates read, but blocks are made only of what would wait for a
    # processor anyway.
    block = 1
    while block < MOST_MAPS and 4 * shape.maps > block * processors and 2 * block <= shape.count:
        block *= 2
    exchange_bytes = 4 * block * lanes  # two float32 of every four lanes, twice in some versions
    line_bytes = lanes * (block * values.element_size() + 3 * gates.element_size())
    ahead = (shared_bytes - exchange_bytes) // line_bytes
    options = {
        "BLOCK": block,
        "LANES": lanes,
        "STAGES": min(MOST_AHEAD, max(0, ahead)) + 1,  # triton keeps one line less than stages
        "num_warps": min(32, max(1, lanes // 128)),  # four lanes a thread
    }
    return (4 * shape.batch, triton.cdiv(shape.count, block)), options


@lru_cache
def _device(device: torch.device) -> tuple[int, int]:
    """Number of processors and bytes of shared memory that one program may have."""
    if device.type == "cpu":  # under triton's interpreter
        return 1, 64 << 10
    shared = triton.runtime.driver.active.utils.get_device_properties(device.index)["max_shared_mem"]
    return torch.cuda.get_device_properties(device).multi_processor_count, shared
